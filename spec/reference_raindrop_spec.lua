-- SPDX-License-Identifier: MIT
--
-- reference_raindrop_spec.lua - the examples of Raindrop's key-value interface, in their Lua form.
-- docs/migrating.md says what became what.

local kv = require "kv"
local helper = require "helper"

helper.each_store(function(new)
  describe("env.DEMO_CACHE", function()
    local env, store
    before_each(function()
      store = new()
      env = kv.manifest(store, { "demo-cache" })
    end)

    it("put: text, with expiration, with metadata", function()
      assert(env.DEMO_CACHE.put("user:123", "John Doe"))
      assert(env.DEMO_CACHE.put("session:abc", { user = 1 }, { ttl = 3600 })) -- expirationTtl
      assert(env.DEMO_CACHE.put("file:456", "\137PNG\0\1", {
        metadata = { contentType = "image/png", size = 1024 },
      }))
      local soon = os.time() + 3600
      assert(env.DEMO_CACHE.put("event", "x", { expiration = soon }))
      assert.equal("John Doe", env.DEMO_CACHE.get("user:123"))
      assert(env.DEMO_CACHE.ttl("session:abc") > 3590)
      assert.equal(soon, env.DEMO_CACHE.entry("event").expiration)
      helper.fails("out_of_range", env.DEMO_CACHE.put("event", "x", { expiration = 1 }))
      helper.raises({ "'expirationTtl'", "'ttl'" }, env.DEMO_CACHE.put, "k", "v",
        { expirationTtl = 60 })
    end)

    it("get: text, json, binary, stream", function()
      env.DEMO_CACHE.put("user:123", "John Doe")
      env.DEMO_CACHE.put("config:settings", '{"theme":"dark"}')
      env.DEMO_CACHE.put("file:456", "\0\255\137")
      env.DEMO_CACHE.put("large:file", ("x"):rep(300000))
      assert.equal("John Doe", env.DEMO_CACHE.get("user:123"))
      assert.same({ theme = "dark" }, env.DEMO_CACHE.get("config:settings", "json"))
      assert.equal("\0\255\137", env.DEMO_CACHE.get("file:456", "binary")) -- arrayBuffer
      local stream, parts = env.DEMO_CACHE.get("large:file", "stream"), {}
      for chunk in stream do parts[#parts + 1] = chunk end
      stream:close()
      assert.equal(("x"):rep(300000), table.concat(parts))
      assert(#parts > 1)
      assert.is_nil(env.DEMO_CACHE.get("none"))
    end)

    it("getWithMetadata", function()
      env.DEMO_CACHE.put("file:456", '{"a":1}', { metadata = { contentType = "image/png" } })
      local result = env.DEMO_CACHE.get_with_metadata("file:456", "json")
      assert.same({ a = 1 }, result.value)
      assert.same({ contentType = "image/png" }, result.metadata)
      assert.is_nil(result.cache_status)
      env.DEMO_CACHE.put("plain", "x")
      assert.is_nil(env.DEMO_CACHE.get_with_metadata("plain").metadata)
      assert.is_nil(env.DEMO_CACHE.get_with_metadata("none"))
    end)

    it("list: all, by prefix, page by page", function()
      for i = 1, 250 do env.DEMO_CACHE.put(("session:%03d"):format(i), i, { ttl = 60 }) end
      env.DEMO_CACHE.put("user:1", 1, { metadata = { role = "admin" } })
      assert.equal(251, #env.DEMO_CACHE.list().keys)
      local users = env.DEMO_CACHE.list { prefix = "user:" }
      assert.equal("user:1", users.keys[1].name)
      assert.same({ role = "admin" }, users.keys[1].metadata)
      assert.is_nil(users.keys[1].expiration)
      assert.is_true(users.list_complete)
      assert.is_nil(users.cursor)
      local seen, pages, cursor = 0, 0, nil
      repeat
        local batch = env.DEMO_CACHE.list { prefix = "session:", limit = 100, cursor = cursor }
        for _, key in ipairs(batch.keys) do
          seen = seen + 1
          assert.equal(("session:%03d"):format(seen), key.name)
          assert(key.expiration > os.time() - 5)
        end
        pages, cursor = pages + 1, batch.cursor
        assert.equal(cursor == nil, batch.list_complete)
      until batch.list_complete
      assert.equal(250, seen)
      assert.equal(3, pages)
    end)

    it("delete, of a key that is not there too", function()
      env.DEMO_CACHE.put("user:123", "John Doe")
      assert.is_true(env.DEMO_CACHE.delete("user:123"))
      assert.is_false(env.DEMO_CACHE.delete("user:123"))
    end)

    it("text, JSON, binary and stream storage", function()
      env.DEMO_CACHE.put("config:theme", "dark")
      assert.equal("dark", env.DEMO_CACHE.get("config:theme"))
      local user = { id = 123, name = "John", active = true }
      env.DEMO_CACHE.put("user:123", kv.encode(user)) -- JSON.stringify, if one likes
      assert.same(user, env.DEMO_CACHE.get("user:123", "json"))
      env.DEMO_CACHE.put("user:123", user) -- or as it is
      assert.same(user, env.DEMO_CACHE.get("user:123"))
      local image = ("\0"):rep(1024)
      env.DEMO_CACHE.put("image:456", image)
      assert.equal(image, env.DEMO_CACHE.get("image:456", "binary"))
      local chunks = { "chunk1", "chunk2" }
      local i = 0
      assert(env.DEMO_CACHE.put("file:789", function()
        i = i + 1
        return chunks[i]
      end))
      local stream = env.DEMO_CACHE.get("file:789", "stream")
      assert.equal("chunk1chunk2", stream:read(100))
      assert.is_nil(stream:read())
      stream:close()
    end)

    it("basic usage: a session", function()
      local function fetch(session_id)
        local session = env.DEMO_CACHE.get("session:" .. session_id)
        if not session then return "Session not found", 401 end
        return "Welcome user " .. session.user_id, 200
      end
      assert.equal("Session not found", (fetch("abc123")))
      env.DEMO_CACHE.put("session:abc123", { user_id = 123, login_time = os.time() },
        { ttl = 24 * 60 * 60 })
      assert.equal("Welcome user 123", (fetch("abc123")))
    end)

    it("the cache pattern", function()
      local asked = 0
      local function get_user(id)
        local user = env.DEMO_CACHE.get("user:" .. id)
        if user == nil then
          asked = asked + 1
          user = { id = id, name = "John" } -- from the database
          env.DEMO_CACHE.put("user:" .. id, user, { ttl = 300 })
        end
        return user
      end
      assert.same(get_user("1"), get_user("1"))
      assert.equal(1, asked)
    end)

    it("the cleanup pattern finds nothing to do", function()
      env.DEMO_CACHE.put("session:short", 1, { ttl = 0.03 })
      env.DEMO_CACHE.put("session:long", 1, { ttl = 300 })
      while env.DEMO_CACHE.exists("session:short") do os.execute("sleep 0.01") end
      local deleted = 0
      for _, key in ipairs(env.DEMO_CACHE.list({ prefix = "session:" }).keys) do
        if key.expiration and key.expiration < os.time() then
          deleted = deleted + 1
          env.DEMO_CACHE.delete(key.name)
        end
      end
      assert.equal(0, deleted)
      assert.same({ "session:long" }, env.DEMO_CACHE.keys())
    end)
  end)
end)
