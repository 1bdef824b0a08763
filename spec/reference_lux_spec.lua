-- SPDX-License-Identifier: MIT
--
-- reference_lux_spec.lua - the examples of Lux's key-value store, in their Lua form; its command
-- line is that of `kv`. docs/migrating.md says what became what.

local kv = require "kv"
local helper = require "helper"

local shell = require "shell"

local no, ok, says = shell.no, shell.ok, shell.says

describe("lux data kv", function()
  local path, dir
  before_each(function() path, dir = shell.begin() end)
  teardown(helper.sweep)

  it("init, list, set, get, delete-key, keys", function()
    ok 'kv init user-preferences "User preference storage"'
    says("user-preferences", ok "kv list")
    says("User preference storage", ok "kv list")
    ok [[kv set user-preferences "user:456" '{"theme":"dark","language":"en"}']]
    assert.equal('{"theme":"dark","language":"en"}', ok 'kv get user-preferences "user:456"')
    assert.equal("user:456\n", ok "kv keys user-preferences")
    ok 'kv delete-key user-preferences "user:456"'
    no(1, "user:456", 'kv get user-preferences "user:456"')
  end)

  it("set-bulk, delete-bulk, export, import", function()
    ok "kv init kv_123"
    ok [[kv set-bulk kv_123 '[
      {"key": "user:1", "value": "{\"name\":\"Alice\"}"},
      {"key": "user:2", "value": "{\"name\":\"Bob\"}"}
    ]']]
    assert.equal('{"name":"Alice"}', ok "kv get kv_123 user:1")
    ok [[kv delete-bulk kv_123 '["user:1", "user:2"]']]
    assert.equal("", ok "kv keys kv_123")
    local file = dir .. "/backup.json"
    helper.write_file(file, [[{
      "user:1": {"name": "Alice", "theme": "dark"},
      "user:2": {"name": "Bob", "theme": "light"}
    }]])
    ok("kv import kv_123 " .. helper.quote(file))
    ok("kv export kv_123 " .. helper.quote(file))
    local store = assert(kv.open(path))
    assert.same({ name = "Alice", theme = "dark" }, store:namespace("kv_123"):get("user:1"))
    local copy = store:namespace("copy")
    assert.equal(2, copy:import(file))
    assert.same(store:namespace("kv_123"):get_all(), copy:get_all())
    store:close()
  end)
end)

helper.each_store(function(new)
  describe("kv in a flow", function()
    local ns, flow_kv
    before_each(function()
      ns = new():namespace("flow")
      flow_kv = ns:bind() -- what a code node calls kv
    end)

    it("get and set a value", function()
      local inputs = { user_id = "456", theme = "dark", language = "en" }
      assert(flow_kv.set("user:" .. inputs.user_id,
        { theme = inputs.theme, language = inputs.language }))
      assert.same({ theme = "dark", language = "en" }, flow_kv.get("user:" .. inputs.user_id))
      -- With text in the node's own hands, as there:
      flow_kv.set("user:457", flow_kv.encode { theme = inputs.theme })
      assert.same({ theme = "dark" }, flow_kv.decode(flow_kv.get("user:457")))
    end)

    it("bulk operations and key conventions", function()
      assert.equal(5, flow_kv.put_many {
        ["user:cust_abc123"] = { name = "Alice" },
        ["session:sess_xyz789"] = { user = "cust_abc123" },
        ["ratelimit:cust_abc123:api_calls"] = 1,
        ["feature:new_checkout"] = true,
        ["cache:product:prod_123"] = { price = 49 },
      })
      assert.same({ "feature:new_checkout" }, flow_kv.keys { prefix = "feature:" })
      assert.equal(2, flow_kv.delete_many { "user:cust_abc123", "feature:new_checkout", "none" })
    end)

    it("user preferences: get with default", function()
      local function preferences(user_id)
        return flow_kv.get("prefs:" .. user_id) or { theme = "light", notifications = true }
      end
      assert.same({ theme = "light", notifications = true }, preferences("u"))
      flow_kv.set("prefs:u", { theme = "dark" })
      assert.same({ theme = "dark" }, preferences("u"))
    end)

    it("rate limiting, in one step and with a window that ends", function()
      local function limited(user_id, action)
        local count, message, code = flow_kv.incr("ratelimit:" .. user_id .. ":" .. action, 1,
          { ttl = 60, max = 100 })
        if not count then
          if code == "out_of_range" then error("Rate limit exceeded", 0) end
          error(message, 0)
        end
        return count
      end
      for i = 1, 100 do assert.equal(i, limited("u", "api")) end
      local allowed, message = pcall(limited, "u", "api")
      assert.is_false(allowed)
      assert.equal("Rate limit exceeded", message)
      assert.equal(1, limited("u", "other"))
      assert(flow_kv.ttl("ratelimit:u:api") <= 60)
    end)

    it("feature flags", function()
      local function enabled(feature) return flow_kv.get("feature:" .. feature) == true end
      assert.is_false(enabled("new_checkout"))
      flow_kv.set("feature:new_checkout", true)
      assert.is_true(enabled("new_checkout"))
      -- One that the command line set as text:
      flow_kv.set("feature:old", "true")
      assert.is_true(flow_kv.get("feature:old", "json"))
    end)

    it("caching", function()
      local fetched = 0
      local function product(id)
        local key = "cache:product:" .. id
        local found = flow_kv.get(key)
        if found == nil then
          fetched = fetched + 1
          found = { id = id, price = 49 } -- from the database
          flow_kv.set(key, found, { ttl = 300 })
        end
        return found
      end
      assert.same(product("prod_123"), product("prod_123"))
      assert.equal(1, fetched)
    end)

    it("the limits: 512 bytes of a key, 25 MB of a value", function()
      assert(flow_kv.set(("k"):rep(512), 1))
      helper.fails("too_big", flow_kv.set(("k"):rep(513), 1))
      helper.fails("too_big", flow_kv.set("k", ("x"):rep(25 * 1024 * 1024 + 1)))
    end)
  end)
end)
