-- SPDX-License-Identifier: MIT
--
-- scopes_spec.lua - namespaces by app and installation, and by manifest.

local kv = require "kv"
local helper = require "helper"

local fails, raises = helper.fails, helper.raises

helper.each_store(function(new)
  describe("store:app and store:global", function()
    local store
    before_each(function() store = new() end)

    it("give namespaces that stay", function()
      local app, all = store:app("crm", "acme"), store:global("crm")
      app:put("user_preferences", { theme = "dark" }, { ttl = 86400, set_if = "not_exist" })
      all:put("system_settings", { maintenance = false })
      store = new.again(store)
      assert.same({ theme = "dark" }, store:app("crm", "acme"):get("user_preferences"))
      assert.same({ maintenance = false }, store:global("crm"):get("system_settings"))
      assert.is_true(store:check())
      assert.same({ user_preferences = { theme = "dark" } }, store:app("crm", "acme"):get_all())
      assert.equal(1, store:app("crm", "acme"):bind().count())
    end)

    it("never let two different ids meet", function()
      local parts = { "a", "b", "ab", "ba", "a\0", "\0a", "\0", "\1", "\1a", "\2", "g", "a:b", ":",
        "a/b", "A", "\255", ("x"):rep(100), ("x"):rep(99), ("\0"):rep(100), "\1b", "\2bc" }
      local all = {}
      for _, a in ipairs(parts) do
        local g = store:global(a)
        assert.is_false(g:exists("k"), a)
        g:put("k", "global " .. a)
        all[#all + 1] = { g, "global " .. a }
        for _, b in ipairs(parts) do
          local s = store:app(a, b)
          assert.is_false(s:exists("k"))
          s:put("k", a .. " and " .. b)
          all[#all + 1] = { s, a .. " and " .. b }
        end
      end
      for i, pair in ipairs(all) do
        assert.equal(1, pair[1]:count(), i)
        assert.equal(pair[2], pair[1]:get("k"))
      end
      for _, pair in ipairs(all) do assert.equal(1, pair[1]:clear()) end
    end)

    it("take ids of 1 to 100 bytes", function()
      local long = ("x"):rep(101)
      fails("too_big", store:app(long, "a"))
      fails("too_big", store:app("a", long))
      fails("too_big", store:global(long))
      raises({ "'app_id'", "1 to 100 bytes" }, store.app, store)
      raises("'app_id'", store.app, store, 5, "a")
      raises("'app_id'", store.app, store, "", "a")
      raises({ "'installation_id'", "1 to 100 bytes" }, store.app, store, "a")
      raises("'installation_id'", store.app, store, "a", 5)
      raises("'installation_id'", store.app, store, "a", "")
      raises("'app_id'", store.global, store)
      raises("'app_id'", store.global, store, "")
      raises({ "store:app", "store.app" }, store.app, "a", "b")
      raises({ "store:global" }, store.global, "a")
    end)

    it("are no names that a program can say or sees", function()
      store:app("a", "b"):put("k", 1)
      store:global("a"):put("k", 1)
      store:namespace("x"):put("k", 1)
      for _, name in ipairs { "\0", "\0aa", "\0a\1ab", "\0ga", "\0\0" } do
        raises({ "'name'", "byte 0" }, store.namespace, store, name)
        raises({ "'name'", "byte 0" }, store.drop, store, name)
      end
      local listed = {}
      for _, info in ipairs(store:namespaces()) do listed[#listed + 1] = info.name end
      assert.same({ "x" }, listed)
      assert.equal(1, store:app("a", "b"):get("k"))
      assert.equal(3, store:stats().keys)
    end)

    it("are read by people", function()
      assert.equal("kv.namespace of app 'crm', installation 'acme'",
        tostring(store:app("crm", "acme")))
      assert.equal("kv.namespace of all installations of app 'crm'", tostring(store:global("crm")))
      local ns = store:app("crm", "acme")
      store:close()
      raises("of app 'crm', installation 'acme' is closed", ns.get, ns, "k")
    end)

    it("have cursors of their own", function()
      local a, b = store:app("a", "b"), store:app("a", "c")
      for i = 1, 5 do a:put("k" .. i, i) b:put("k" .. i, i) end
      local page = a:list { limit = 2 }
      assert.equal("k3", a:list { limit = 2, cursor = page.cursor }.keys[1].name)
      fails("bad_cursor", b:list { limit = 2, cursor = page.cursor })
    end)
  end)

  describe("kv.manifest", function()
    local store
    before_each(function() store = new() end)

    it("gives bound tables under upper-snake names", function()
      local env = kv.manifest(store, { "demo-cache", "sessions", "user.prefs_2", "camelCase" })
      local got = {}
      for name in pairs(env) do got[#got + 1] = name end
      table.sort(got)
      assert.same({ "CAMELCASE", "DEMO_CACHE", "SESSIONS", "USER_PREFS_2" }, got)
      assert(env.DEMO_CACHE.put("user:123", "John Doe"))
      assert.equal("John Doe", store:namespace("demo-cache"):get("user:123"))
      assert.is_nil(getmetatable(env))
      raises(".get", env.DEMO_CACHE.get, env.DEMO_CACHE, "user:123")
      store = new.again(store)
      assert.equal("John Doe", kv.manifest(store, { "demo-cache" }).DEMO_CACHE.get("user:123"))
      assert.same({}, kv.manifest(store, {}))
    end)

    it("refuses names that become one, and what is no name, before it makes any", function()
      raises({ "'demo-cache'", "'demo_cache'", "DEMO_CACHE" }, kv.manifest, store,
        { "first", "demo-cache", "demo_cache" })
      raises({ "'a'", "'A'" }, kv.manifest, store, { "a", "A" })
      raises("both", kv.manifest, store, { "a", "a" })
      for _, bad in ipairs { "", "1a", "-a", "_a", "a b", "a\0", "a/b", "\195\169", ".a",
        ("a"):rep(256), 5, true, {} } do
        raises("'names[2]'", kv.manifest, store, { "first", bad })
      end
      raises("'names'", kv.manifest, store, { "first", x = 1 })
      raises("'names'", kv.manifest, store, { "first", nil, "third" })
      raises("'names'", kv.manifest, store)
      raises("'names'", kv.manifest, store, "demo-cache")
      raises("'store'", kv.manifest, "store", {})
      raises("'store'", kv.manifest)
      raises("'store'", kv.manifest, store:namespace("x"), {})
      raises("kv:manifest", kv.manifest, kv, store, {})
      local listed = store:namespaces()
      assert.equal(1, #listed)
      assert.equal("x", listed[1].name)
      store:close()
      raises("closed", kv.manifest, store, { "a" })
    end)

    it("reads its list raw", function()
      local function trap() error("a metamethod ran") end
      local names = setmetatable({ "a" }, { __index = trap, __len = trap, __ipairs = trap,
        __pairs = trap })
      assert.truthy(kv.manifest(store, names).A)
    end)
  end)
end)
