-- SPDX-License-Identifier: MIT
--
-- reference_rocketlane_spec.lua - the examples of Rocketlane's key-value store, in their Lua form.
-- docs/migrating.md says what became what.

local kv = require "kv"
local helper = require "helper"

helper.each_store(function(new)
  for scope, open in pairs {
    ["the app's own values"] = function(store) return store:app("my-app", "installation-7") end,
    ["the values of all installations"] = function(store) return store:global("my-app") end,
  } do
    describe(scope, function()
      local r, store
      before_each(function()
        store = new()
        r = open(store)
      end)

      it("setAppValue with ttlInSeconds and setIf: 'not_exist'", function()
        assert(r:set("user_preferences", { theme = "dark", notifications = true },
          { ttl = 86400, set_if = "not_exist" }))
        local ttl = r:ttl("user_preferences")
        assert(ttl > 86390 and ttl <= 86400, ttl)
        helper.refuses("exists", r:set("user_preferences", { theme = "light" },
          { ttl = 86400, set_if = "not_exist" }))
        assert.same({ theme = "dark", notifications = true }, r:get("user_preferences"))
      end)

      it("setGlobalValue with setIf: 'exist'", function()
        local value = { maintenance = false }
        helper.refuses("not_found",
          r:set("system_settings", value, { ttl = 3600, set_if = "exist" }))
        assert.is_false(r:exists("system_settings"))
        assert(r:set("system_settings", { maintenance = true }))
        assert(r:set("system_settings", value, { ttl = 3600, set_if = "exist" }))
        assert.same(value, r:get("system_settings"))
      end)

      it("getAppValue, deleteAppValue, getAllAppValues", function()
        r:set("user_preferences", { theme = "dark" })
        r:set("count", 3)
        assert.same({ theme = "dark" }, r:get("user_preferences"))
        assert.same({ user_preferences = { theme = "dark" }, count = 3 }, r:get_all())
        assert.is_true(r:delete("user_preferences"))
        assert.is_nil(r:get("user_preferences"))
        assert.same({ count = 3 }, r:get_all())
      end)

      it("setAppJsonValue, incrementAppJsonValue, pushAppJsonValue, removeAppJsonValue", function()
        r:set("user_preferences", { theme = "dark", notifications = true })
        assert(r:json_set("user_preferences", "theme", "light"))
        assert.equal(1, (r:json_increment("stats", "count")))
        assert.equal(2, (r:json_increment("stats", "count")))
        local now = os.time()
        assert.equal(1, (r:json_push("history", "events", { type = "login", timestamp = now })))
        assert.equal(2, (r:json_push("history", "events", { type = "logout", timestamp = now })))
        assert.is_true((r:json_remove("user_preferences", "notifications")))
        assert.is_false((r:json_remove("user_preferences", "deprecated_feature")))
        assert.same({ theme = "light" }, r:get("user_preferences"))
        assert.same({ count = 2 }, r:get("stats"))
        assert.same({ events = { { type = "login", timestamp = now },
          { type = "logout", timestamp = now } } }, r:get("history"))
      end)

      it("values are primitives, arrays or objects", function()
        for _, value in ipairs { "text", 1, 1.5, true, false, kv.null, { 1, "a", false },
          { a = {} } } do
          assert(r:set("k", value))
          assert.same(value, r:get("k"))
        end
      end)
    end)
  end

  it("the scopes are apart", function()
    local store = new()
    local a, b = store:app("my-app", "one"), store:app("my-app", "two")
    local all = store:global("my-app")
    a:set("k", "one")
    b:set("k", "two")
    all:set("k", "all")
    assert.same({ k = "one" }, a:get_all())
    assert.same({ k = "two" }, b:get_all())
    assert.same({ k = "all" }, store:global("my-app"):get_all())
    assert.is_nil(store:global("another-app"):get("k"))
  end)
end)
