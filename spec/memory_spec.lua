-- SPDX-License-Identifier: MIT
--
-- memory_spec.lua - Lua's allocator refuses at the first, second, third ... request of every call:
-- the call raises, the store is as before, nothing is left behind, and it goes on.

local helper = require "helper"

helper.with_hooks("out of memory", function(kv, core)
  local store, ns

  local large = ("L"):rep(20000)
  local document = { list = { 1, 2, { deep = ("d"):rep(6000) } }, text = "t", n = 1.5, b = true }

  before_each(function()
    store = kv.open(":memory:")
    ns = store:namespace("a", { description = "described" })
    ns:put("string", ("s"):rep(100), { metadata = { m = { 1, 2 } } })
    ns:put("large", large, { metadata = { m = "large" } })
    ns:put("doc", document, { ttl = 10000, metadata = { m = "doc" } })
    ns:put("n", 5)
    ns:put("json", '{"a":[1,2,3]}')
  end)
  after_each(function() store:close() end)

  local function state()
    local out = {}
    for _, key in ipairs(ns:list({ values = true }).keys) do
      out[#out + 1] = key.name .. "=" .. ns:get(key.name, "text")
        .. kv.encode(key.metadata or {}) .. tostring(key.expiration) .. ns:entry(key.name).id
    end
    for _, info in ipairs(store:namespaces()) do
      out[#out + 1] = info.name .. info.description .. info.keys
    end
    return table.concat(out, "\n") .. store:rev()
  end

  local reads = {
    get = function() return ns:get("string") end,
    ["get of a large value"] = function() return ns:get("large") end,
    ["get of a document"] = function() return ns:get("doc") end,
    ["get as text"] = function() return ns:get("doc", "text") end,
    ["get as json"] = function() return ns:get("json", "json") end,
    ["get of a miss"] = function() return ns:get("nothing") == nil end,
    ["get of too long a key"] = function() return ns:get(("k"):rep(513)) == nil end,
    entry = function() return ns:entry("doc") end,
    ["entry of a large value"] = function() return ns:entry("large") end,
    list = function() return ns:list() end,
    ["list of values"] = function() return ns:list { values = true, prefix = "", limit = 4 } end,
    ["list with a cursor"] = function()
      return ns:list { limit = 1, cursor = ns:list({ limit = 1 }).cursor }
    end,
    pairs = function()
      local n = 0
      for _ in ns:pairs { start = "a", stop = "z" } do n = n + 1 end
      return n == 5
    end,
    keys = function() return ns:keys() end,
    count = function() return ns:count { prefix = "l" } end,
    get_all = function() return ns:get_all() end,
    get_many = function() return ns:get_many { "string", "large", "doc", "nothing" } end,
    namespaces = function() return store:namespaces() end,
    stats = function() return store:stats() end,
    bind = function() return ns:bind().get("doc") end,
    ["tostring"] = function() return tostring(store) .. tostring(ns) end,
    json_get = function() return ns:json_get("doc", "list[2].deep") end,
    ["json_get of a table"] = function() return ns:json_get("doc", { "list", 2 }) end,
    ["json_get of a miss"] = function() return ns:json_get("doc", "list[7]") == nil end,
    ["json_get in a string"] = function() return ns:json_get("json", "/a/1") end,
    ["json_type"] = function() return ns:json_type("doc", "list") end,
    ["json_keys"] = function() return ns:json_keys("doc") end,
    ["json_length"] = function() return ns:json_length("doc") == 4 end,
    ["get of a stream"] = function()
      local stream = ns:get("large", "stream")
      local text = stream:read(5) .. stream:read(40000) .. (stream() or "")
      return stream:close() and text == large
    end,
    ["entry of a stream"] = function() return ns:entry("large", "stream").value:read() end,
    ["lines of a stream"] = function() return ns:get("doc", "stream"):lines()() end,
    writer = function() return ns:writer("new"):write(large, "x"):close() end,
    export = function() return ns:export(function() return 1 end) end,
    ["import of what is wrong"] = function()
      local text = "{\"\":5}\n"
      local count, message = ns:import(function()
        local piece = text
        text = nil
        return piece
      end)
      return count == nil and message
    end,
    ["a bad path"] = function() return ns:json_set("doc", "a..b", 1) == nil end,
    ["a path of the wrong kind"] = function() return ns:json_set("doc", "text.x", 1) == nil end,
    ["a mistake"] = function() return not pcall(ns.put, ns, "k", 1, { expirationTtl = 1 }) end,
    ["a condition"] = function() return ns:put("n", 1, { if_rev = 99999 }) == false end,
  }

  local writes = {
    put = function() return ns:put("string", "new") end,
    ["put of a document"] = function() return ns:put("doc", document) end,
    ["put with options"] = function()
      return ns:put("new", document, { ttl = 10, metadata = { a = { 1 } }, set_if = "not_exist" })
    end,
    swap = function() return ns:swap("doc", large) end,
    ["swap of a large value"] = function() return ns:swap("large", document, { ttl = 5 }) end,
    take = function() return ns:take("doc") end,
    ["take of a large value"] = function() return ns:take("large") end,
    delete = function() return ns:delete("doc") end,
    incr = function() return ns:incr("n", 2, { init = 1, max = 100 }) end,
    expire = function() return ns:expire("n", 100) end,
    persist = function() return ns:persist("doc") end,
    json_set = function()
      return ns:json_set("doc", "list[2].x", { 1, { 2 } }, { ttl = 5, metadata = { a = 1 } })
    end,
    ["json_set of a large value"] = function() return ns:json_set("doc", { "new", "l" }, large) end,
    ["json_set of a large document"] = function() return ns:json_set("new", "", { large }) end,
    json_increment = function() return ns:json_increment("doc", "n", 0.5) end,
    json_push = function() return ns:json_push("doc", "list", document) end,
    json_extend = function() return ns:json_extend("json", "a", { "x", "y" }) end,
    json_insert = function() return ns:json_insert("json", "a[1]", "x") end,
    json_pop = function() return ns:json_pop("doc", "list") end,
    ["json_pop of a small value"] = function() return ns:json_pop("json", "a") end,
    json_remove = function() return ns:json_remove("doc", "list") end,
    ["json_remove of the key"] = function() return ns:json_remove("doc") end,
    json_merge = function() return ns:json_merge("doc", { list = kv.null, t = { u = large } }) end,
    json_toggle = function() return ns:json_toggle("doc", "b") == false end,
    json_append = function() return ns:json_append("doc", "text", large) end,
    ["put of a reader"] = function()
      local n = 0
      return ns:put("doc", function()
        n = n + 1
        return n <= 3 and large or nil
      end, { metadata = { a = 1 } })
    end,
    ["commit of a writer"] = function()
      local writer = ns:writer("new", { ttl = 100 })
      writer:write(large)
      return writer:commit()
    end,
    import = function()
      local text = '{"a":1,"b":"' .. large .. '","doc":{"c":[1]}}'
      return ns:import(function()
        local piece = text
        text = nil
        return piece
      end)
    end,
    ["put_many of a map"] = function()
      return ns:put_many({ x = document, y = large, z = 1 }, { metadata = { a = 1 } })
    end,
    ["put_many of a list"] = function()
      return ns:put_many { { key = "x", value = document, metadata = { b = 1 } },
        { key = "n", value = "[1]", as = "json", ttl = 5 } }
    end,
    delete_prefix = function() return ns:delete_prefix("d") end,
    clear = function() return ns:clear() end,
    drop = function() return store:drop("a") end,
    namespace = function() return store:namespace("b", { description = "new" }):get("k") == nil end,
    -- Steps of its own, each of which stands.
    open = function()
      local other = kv.open(":memory:")
      local done = other:namespace("x"):put("k", document)
      other:close()
      return done
    end,
  }

  local function collect()
    collectgarbage()
    collectgarbage()
  end

  local function refuse_each(call, changes)
    local boxes, refused = nil, 0
    for n = 0, 10000 do
      local before = state()
      collect()
      boxes = boxes or core.test_boxes()
      local ok, result, failed = core.test_memory(n, call)
      if ok and not failed then
        assert(result)
        return refused
      end
      refused = refused + 1
      -- An allocation may be done without: a cache, say.
      if ok then
        assert(result)
        if changes then return refused end
      else
        assert.truthy(tostring(result):find("memory", 1, true), tostring(result))
        if state() ~= before then
          -- More than one step: all before the last stand.
          assert(changes == "steps", "changed by a failed call at allocation " .. n)
        end
      end
      collect()
      assert.equal(boxes, core.test_boxes())
    end
    error("never succeeds")
  end

  for name, call in pairs(reads) do
    it("in " .. name, function()
      refuse_each(call)
      assert.is_true(store:check())
    end)
  end

  for name, call in pairs(writes) do
    it("in " .. name, function()
      local steps = name == "namespace" and "steps"
      refuse_each(call, steps or true)
      assert.is_true(store:check())
    end)
  end
end)
