-- What does it cost to change or read one field of a stored document, beside decoding all of it?

return function(bench)
  local cjson = require "cjson"
  local now = bench.clock.now
  local store = assert(require "kv".open(":memory:"))
  local ns = store:namespace "documents"

  local small = '{"id":12345,"name":"Ada Lovelace","email":"ada@example.org","theme":"dark",'
    .. '"visits":41,"active":true,"tags":["a","b"]}'
  local items = {}
  for i = 1, 1000 do
    items[i] = ('{"id":%d,"name":"item number %d","price":%d.5,"tags":["red","blue"],"sold":%s}')
      :format(i, i, i * 3, i % 2 == 0)
  end
  local large = ('{"title":"all items","items":[%s],"visits":41,"owner":{"name":"Ada"}}')
    :format(table.concat(items, ",", 1, 1190 <= #items and 1190 or #items))
  ns:put("small", small, { as = "json" })
  ns:put("large", large, { as = "json" })

  local function timed(count, call)
    return function()
      call(count // 10)
      local began = now()
      call(count)
      return (now() - began) / count
    end
  end

  local function by_cjson(key)
    return function(n)
      local decode, encode = cjson.decode, cjson.encode
      for _ = 1, n do
        local doc = decode(ns:get(key, "text"))
        doc.visits = doc.visits + 1
        ns:put(key, encode(doc), { as = "json" })
      end
    end
  end

  for _, which in ipairs { { "small", #small, 100000, 3 }, { "large", #large, 400, 10 } } do
    local key, size, count, goal = which[1], which[2], which[3], which[4]
    bench.title(("a document of %d bytes"):format(size))
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
      { "get, cjson, put", timed(count, by_cjson(key)) },
      { "json_get", timed(count, function(n)
        for _ = 1, n do
          ns:json_get(key, "visits")
        end
      end) },
      { "json_get inside", timed(count, function(n)
        local path = key == "small" and "tags[1]" or "items[990].name"
        for _ = 1, n do
          ns:json_get(key, path)
        end
      end) },
      { "cjson.decode", timed(count, function(n)
        local text, decode = ns:get(key, "text"), cjson.decode
        for _ = 1, n do
          decode(text)
        end
      end) },
      { "get as text", timed(count, function(n)
        for _ = 1, n do
          ns:get(key, "text")
        end
      end) },
      { "put of text", timed(count, function(n)
        local text = ns:get(key, "text")
        for _ = 1, n do
          ns:put(key, text)
        end
        ns:put(key, text, { as = "json" })
      end) },
    })
    bench.at_least(key .. ": get, cjson, put / json_set", t["get, cjson, put"] / t.json_set, goal)
    bench.at_least(key .. ": get, cjson, put / json_increment",
      t["get, cjson, put"] / t.json_increment, goal)
    if key == "large" then
      bench.at_least("large: cjson.decode / json_get", t["cjson.decode"] / t.json_get, 15)
      bench.at_least("large: cjson.decode / json_get inside",
        t["cjson.decode"] / t["json_get inside"], 15)
    end
  end
  store:close()
end
