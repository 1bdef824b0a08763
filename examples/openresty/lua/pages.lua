-- A read-through page cache: what the origin answered, until its ttl is over. Of many requests
-- for a page that is not there one fetches it; the others look again until it is.

local stores = require "stores"

local pages = {}

local FETCHING = 5 -- seconds after which somebody else may try

local function answer(page)
  ngx.status = page.status
  ngx.header["X-Cache"] = page.fresh and "MISS" or "HIT"
  ngx.print(page.body)
end

local function fetch(ns, url, ttl)
  -- Somebody may have finished between our look and our turn.
  local page = ns:get(url)
  if page then return page end
  local response = ngx.location.capture(url)
  page = { status = response.status, body = response.body }
  if response.status == 200 then
    assert(ns:put(url, page, { ttl = ttl }))
  end
  page.fresh = true
  return page
end

function pages.serve(url, ttl)
  local ns = stores.data():namespace "pages"
  -- A body of any bytes would be kept as a string of its own; pages of text fit into a document.
  for _ = 1, FETCHING * 100 do
    local page = ns:get(url)
    if page then return answer(page) end
    if ns:put("fetching:" .. url, true, { set_if = "not_exist", ttl = FETCHING }) then
      local ok, fetched = pcall(fetch, ns, url, ttl)
      ns:delete("fetching:" .. url)
      if not ok then error(fetched) end
      return answer(fetched)
    end
    ngx.sleep(0.01)
  end
  ngx.exit(504)
end

return pages
