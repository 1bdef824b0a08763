-- What does it cost to change or read one field of a stored document, beside decoding all of it?

-- Documents of small objects, with the field that is edited near the end.
local function small()
  return '{"id":12345,"name":"Ada Lovelace","email":"ada@example.org","theme":"dark",'
    .. '"tags":["a","b"],"visits":41,"active":true}'
end

local function large()
  local items = {}
  for i = 1, 1190 do
    items[i] = ('{"id":%d,"name":"item number %d","price":%d.5,"tags":["red","blue"],"sold":%s}')
      :format(i, i, i * 3, i % 2 == 0)
  end
  return ('{"title":"all items","items":[%s],"visits":41,"owner":{"name":"Ada"}}')
    :format(table.concat(items, ","))
end

-- Texts of about 100 KB to check.
local texts = {
  ["long strings"] = function()
    return '["' .. (("a long string, "):rep(130) .. '","'):rep(50) .. '"]'
  end,
  ["objects of strings"] = function()
    local out = {}
    for i = 1, 900 do
      out[i] = ('{"name":"Ada Lovelace %d","email":"ada.lovelace.%d@example.org","active":true,'
        .. '"created":"2026-11-27T14:%02d:00Z"}'):format(i, i, i % 60)
    end
    return "[" .. table.concat(out, ",") .. "]"
  end,
  ["objects of numbers"] = large,
}

return function(bench)
  local cjson = require "cjson"
  local now = bench.clock.now
  local store = assert(require "kv".open(":memory:"))
  local ns = store:namespace "documents"

  -- function(n) does something n times; ns for one.
  local function timed(count, call)
    return function()
      call(count // 10)
      local began = now()
      call(count)
      return (now() - began) / count
    end
  end

  local function edits(key, text, count, goal)
    ns:put(key, text, { as = "json" })
    bench.title(("a document of %d bytes"):format(#text))
    local t = bench.contest(key, {
      { "json_set", timed(count, function(n)
        for i = 1, n do
          ns:json_set(key, "visits", i)
        end
      end) },
      { "json_increment", timed(count, function(n)
        for _ = 1, n do
          ns:json_increment(key, "visits")
        end
      end) },
      { "get, cjson, put", timed(count, function(n)
        local decode, encode = cjson.decode, cjson.encode
        for _ = 1, n do
          local doc = decode(ns:get(key, "text"))
          doc.visits = doc.visits + 1
          ns:put(key, encode(doc), { as = "json" })
        end
      end) },
      { "json_get", timed(count, function(n)
        for _ = 1, n do
          ns:json_get(key, "visits")
        end
      end) },
      { "cjson.decode", timed(count, function(n)
        local decode = cjson.decode
        for _ = 1, n do
          decode(text)
        end
      end) },
    })
    for _, call in ipairs { "json_set", "json_increment" } do
      bench.at_least(("%s: get, cjson, put / %s"):format(key, call),
        t["get, cjson, put"] / t[call], goal)
    end
    return t
  end

  edits("120 bytes", small(), 100000, 3)
  local t = edits("100 KB", large(), 300, 10)
  bench.at_least("100 KB: cjson.decode / json_get", t["cjson.decode"] / t.json_get, 15)

  -- A string is checked each time that it is looked into; the difference to a document, which is
  -- not, is the check.
  bench.title "the scanner, whole texts"
  for _, name in ipairs { "long strings", "objects of strings", "objects of numbers" } do
    local text = texts[name]()
    ns:put("string", text)
    ns:put("document", text, { as = "json" })
    local function look(key)
      return timed(300, function(n)
        for _ = 1, n do
          ns:json_type(key, "")
        end
      end)
    end
    local looks = bench.contest(name, {
      { "string", look "string" }, { "document", look "document" },
    })
    local speed = #text / (looks.string - looks.document)
    bench.row(name .. ", check", speed, "GB/s")
    bench.at_least("scanner: " .. name, speed, 1, "GB/s")
  end
  store:close()
end
