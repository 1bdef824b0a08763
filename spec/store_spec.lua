-- SPDX-License-Identifier: MIT
--
-- store_spec.lua - open and its options, the store object, namespaces, reopening, other processes.

local kv = require "kv"
local helper = require "helper"

local fails, raises, returns = helper.fails, helper.raises, helper.returns

describe("kv.open", function()
  after_each(helper.sweep)

  it("makes a store with its missing parents", function()
    local path = helper.path()
    local store = assert(kv.open(path))
    assert(store:namespace("a"):put("k", 1))
    store:close()
    store = assert(kv.open(path, { create = false }))
    assert.equal(1, store:namespace("a"):get("k"))
    store:close()
  end)

  it("with create = false does not", function()
    local path = helper.path(true)
    fails("not_found", kv.open(path, { create = false }))
    local _, message = kv.open(path, { create = false })
    assert.truthy(message:find(path, 1, true), message)
    fails("not_found", kv.open(path, { create = false }))
    local store = assert(kv.open(path))
    store:close()
  end)

  it("refuses a path that is a file", function()
    local path = helper.path(true)
    helper.write_file(path, "text")
    fails("unsupported", kv.open(path))
    local _, message = kv.open(path)
    assert.truthy(message:find(path, 1, true), message)
  end)

  it("refuses a directory that is something else, and leaves it alone", function()
    local path = helper.path(true)
    os.execute("mkdir " .. helper.quote(path))
    helper.write_file(path .. "/notes.txt", "mine")
    fails("unsupported", kv.open(path))
    local file = assert(io.open(path .. "/notes.txt"))
    assert.equal("mine", file:read("*a"))
    file:close()
    local list = assert(io.popen("ls -A " .. helper.quote(path)))
    assert.equal("notes.txt\n", list:read("*a"))
    list:close()
  end)

  it("refuses a directory that everyone can write to", function()
    local path = helper.path(true)
    os.execute("mkdir -m 777 " .. helper.quote(path))
    fails("denied", kv.open(path))
  end)

  -- Changes bytes of a file in place: those at an offset, or where a text is.
  local function patch(file, at, bytes)
    local f = assert(io.open(file, "r+b"))
    if type(at) == "string" then at = assert(f:read("*a"):find(at, 1, true)) - 1 end
    f:seek("set", at)
    f:write(bytes)
    f:close()
  end

  it("refuses a store of a newer format, and changes nothing", function()
    local path = helper.path()
    local store = assert(kv.open(path))
    store:namespace("a"):put("k", 1)
    store:close()
    patch(path .. "/meta", 8, "\2")
    fails("unsupported", kv.open(path))
    fails("unsupported", kv.open(path, { salvage = true }))
    fails("unsupported", kv.open(path, { readonly = true }))
    local _, message = kv.open(path)
    assert.truthy(message:find(path, 1, true), message)
    patch(path .. "/meta", 8, "\1")
    store = assert(kv.open(path))
    assert.equal(1, store:namespace("a"):get("k"))
    store:close()
  end)

  it("says corrupt when what was durable is damaged; salvage opens with what is whole", function()
    local path = helper.path()
    local store = assert(kv.open(path))
    local ns = store:namespace("a")
    for i = 1, 9 do ns:put("k" .. i, ("<value %d>"):format(i)) end
    assert(store:sync())
    store:close()
    patch(path .. "/log.00000001", "<value 5>", "<changed>")
    fails("corrupt", kv.open(path))
    fails("corrupt", kv.open(path))
    local _, message = kv.open(path)
    assert.truthy(message:find(path, 1, true), message)
    store = assert(kv.open(path, { salvage = true }))
    ns = store:namespace("a")
    for _, key in ipairs(ns:keys()) do
      assert.equal(("<value %s>"):format(key:sub(2)), ns:get(key))
    end
    assert.is_false(ns:exists("k5"))
    assert.equal(8, ns:count())
    assert(#store:stats().report > 0)
    assert.is_true(store:check())
    assert(ns:put("k5", "again"))
    store:close()
    store = assert(kv.open(path))
    assert.equal(9, store:namespace("a"):count())
    store:close()
  end)

  it("raises for what is no path", function()
    for _, path in ipairs { 5, true, {}, print } do raises("'path'", kv.open, path) end
    raises("'path'", kv.open)
    raises("'path'", kv.open, "")
    raises("'path'", kv.open, "a\0b")
  end)

  it("raises for a bad option, and opens nothing", function()
    local path = helper.path(true)
    local bad = {
      create = { 1 }, thread = { 0 }, readonly = { "no" }, unsafe_fs = { 1 }, salvage = { 0 },
      sync = { "sometimes", true, 1 }, interval = { 0, -1, "1", 0 / 0, 1e300 },
      timeout = { -1, "5", 0 / 0, 1e300 }, max_size = { 0, -1, 0.5, "1", 1e300 },
      max_value = { 0, -1, 2 ^ 30 + 1, "1", 1.5 }, mode = { 600, "rw", "0999", "06000", "6", true },
    }
    for name, values in pairs(bad) do
      for _, value in ipairs(values) do
        raises("'" .. name .. "'", kv.open, path, { [name] = value })
      end
    end
    fails("not_found", kv.open(path, { create = false }))
  end)

  it("takes every good one", function()
    local store = assert(kv.open(helper.path(), { create = true, sync = "always", interval = 0.5,
      thread = false, readonly = false, max_size = 1e9, max_value = 2 ^ 30, mode = "0640",
      timeout = 0, unsafe_fs = true, salvage = false }))
    assert(store:namespace("a"):put("k", 1))
    store:close()
    for _, sync in ipairs { "always", "interval", "none" } do
      local path = helper.path()
      store = assert(kv.open(path, { sync = sync, thread = sync ~= "none" }))
      assert(store:namespace("a"):put("k", sync))
      store:close()
      store = assert(kv.open(path))
      assert.equal(sync, store:namespace("a"):get("k"))
      store:close()
    end
  end)

  it("gives new files the mode", function()
    local path = helper.path()
    local store = assert(kv.open(path, { mode = "0640" }))
    assert(store:namespace("a"):put("k", 1))
    store:close()
    local list = assert(io.popen("stat -c %a " .. helper.quote(path) .. "/*"))
    for mode in list:lines() do assert.equal("640", mode) end
    list:close()
  end)

  it("readonly reads and refuses to write", function()
    local path = helper.path()
    local store = assert(kv.open(path))
    local ns = store:namespace("a")
    ns:put("k", 1, { ttl = 1000 })
    store:close()
    store = assert(kv.open(path, { readonly = true }))
    ns = assert(store:namespace("a"))
    assert.equal(1, ns:get("k"))
    assert.same({ "k" }, ns:keys())
    assert.equal(1, ns:count())
    fails("readonly", ns:put("k", 2))
    fails("readonly", ns:swap("k", 2))
    fails("readonly", ns:delete("k"))
    fails("readonly", ns:take("k"))
    fails("readonly", ns:incr("k"))
    fails("readonly", ns:expire("k", 5))
    fails("readonly", ns:persist("k"))
    fails("readonly", ns:put_many { k = 2 })
    fails("readonly", ns:delete_many { "k" })
    fails("readonly", ns:delete_prefix("k"))
    fails("readonly", ns:clear())
    fails("readonly", store:drop("a"))
    assert.equal(1, ns:get("k"))
    assert.is_true(store:check())
    store:close()
    store = assert(kv.open(path))
    assert.equal(1, store:namespace("a"):get("k"))
    store:close()
  end)

  it("twice in a process gives two objects of one store", function()
    local path = helper.path()
    local a, b = assert(kv.open(path)), assert(kv.open(path))
    assert.not_equal(a, b)
    local na, nb = a:namespace("n"), b:namespace("n")
    na:put("k", 1)
    assert.equal(1, nb:get("k"))
    assert.equal(2, nb:incr("k"))
    assert.equal(2, na:get("k"))
    assert.equal(a:rev(), b:rev())
    a:close()
    raises("closed", na.get, na, "k")
    assert.equal(3, nb:incr("k"))
    b:close()
    a = assert(kv.open(path))
    assert.equal(3, a:namespace("n"):get("k"))
    a:close()
  end)

  it('":memory:" is a new private store each time', function()
    local a, b = assert(kv.open(":memory:")), assert(kv.open(":memory:"))
    a:namespace("n"):put("k", 1)
    assert.is_nil(b:namespace("n"):get("k"))
    assert.equal(0, #b:namespaces() - 1)
    a:close()
    b:close()
  end)

  describe("and another process", function()
    local function other(path, code)
      return helper.run(([[
        local kv = require "kv"
        local path = %q
        %s
      ]]):format(path, code))
    end

    it("shares the store while this one has it open", function()
      local path = helper.path()
      local store = assert(kv.open(path))
      store:namespace("a"):put("k", "here")
      local rev = store:rev()
      assert.equal("here", other(path, [[
        local ns = kv.open(path):namespace("a")
        io.write(ns:get("k"))
        ns:put("k", "there")
      ]]))
      assert.equal("there", store:namespace("a"):get("k"))
      assert.equal(rev + 1, store:rev())
      store:namespace("a"):put("k", "here")
      store:close()
      assert.equal("here", other(path, 'io.write(kv.open(path):namespace("a"):get("k"))'))
    end)

    it("finds everything that this one wrote, and the other way round", function()
      local path = helper.path()
      local store = assert(kv.open(path))
      store:namespace("a"):put("k", { list = { 1, 2.5, kv.null } }, { metadata = { m = 1 } })
      store:close()
      assert.equal('{"list":[1,2.5,null]} {"m":1}', other(path, [[
        local ns = kv.open(path):namespace("a")
        io.write(ns:get("k", "text"), " ", kv.encode(ns:entry("k").metadata))
        ns:put("back", "there", { ttl = 1000 })
      ]]))
      store = assert(kv.open(path))
      local ns = store:namespace("a")
      assert.equal("there", ns:get("back"))
      assert(ns:ttl("back") > 900)
      store:close()
    end)

    it("loses nothing when it ends without closing", function()
      local path = helper.path()
      other(path, [[
        local ns = kv.open(path):namespace("a")
        for i = 1, 1000 do ns:put("k" .. i, i) end
        os.exit(0)
      ]])
      local store = assert(kv.open(path))
      assert.equal(1000, store:namespace("a"):count())
      assert.is_true(store:check())
      store:close()
    end)

    it("loses nothing when it is killed", function()
      local path = helper.path()
      other(path, [[
        local ns = kv.open(path):namespace("a")
        for i = 1, 1000 do ns:put("k" .. i, i) end
        io.popen("kill -9 $PPID"):read("*a")
      ]])
      local store = assert(kv.open(path))
      assert.equal(1000, store:namespace("a"):count())
      assert.is_true(store:check())
      store:close()
    end)
  end)
end)

describe("a store", function()
  helper.each_store(function(new)
    local store

    before_each(function() store = new() end)

    describe("namespace", function()
      it("keeps keys apart", function()
        local a, b = store:namespace("a"), store:namespace("b")
        a:put("k", "in a")
        b:put("k", "in b")
        assert.equal("in a", a:get("k"))
        assert.equal("in b", b:get("k"))
        a:delete("k")
        assert.equal("in b", b:get("k"))
        b:clear()
        assert.equal(0, b:count())
      end)

      it("is one of the same name in two objects", function()
        local a, b = store:namespace("a"), store:namespace("a")
        a:put("k", 1)
        assert.equal(1, b:get("k"))
      end)

      it("has a name of 1 to 255 bytes, any but a leading 0, case-sensitive", function()
        local names = { "a", "A", ("n"):rep(255), "ünï", "a b", "\1", "a\0b", "a\0", "../x",
          "\255" }
        for i, name in ipairs(names) do
          local ns = assert(store:namespace(name))
          ns:put("k", i)
        end
        store = new.again(store)
        for i, name in ipairs(names) do
          assert.equal(i, store:namespace(name):get("k"))
          assert.equal(name, store:namespace(name):entry("k").namespace)
        end
        assert.equal(#names, #store:namespaces())
      end)

      it("raises for a bad name", function()
        for _, name in ipairs { 5, true, {}, "", "\0", "\0a" } do
          raises("'name'", store.namespace, store, name)
          raises("'name'", store.drop, store, name)
        end
        raises("'name'", store.namespace, store)
        fails("too_big", store:namespace(("n"):rep(256)))
        fails("too_big", store:drop(("n"):rep(256)))
        assert.same({}, store:namespaces())
      end)

      it("with create = false must be there", function()
        fails("not_found", store:namespace("a", { create = false }))
        assert.same({}, store:namespaces())
        store:namespace("a")
        assert(store:namespace("a", { create = false }))
        raises("'create'", store.namespace, store, "a", { create = 1 })
      end)

      it("has a description, which a later one replaces", function()
        local function described() return store:namespaces()[1].description end
        store:namespace("a", { description = "first" })
        assert.equal("first", described())
        store:namespace("a")
        assert.equal("first", described())
        store:namespace("a", { description = "second" })
        assert.equal("second", described())
        store = new.again(store)
        assert.equal("second", described())
        store:namespace("a", { description = "" })
        assert.equal("", described())
        raises("'description'", store.namespace, store, "a", { description = 5 })
      end)
    end)

    describe("namespaces", function()
      it("says what there is, in order", function()
        assert.same({}, store:namespaces())
        local before = os.time()
        store:namespace("b", { description = "B" }):put("key", "value")
        store:namespace("a")
        local list = store:namespaces()
        assert.equal(2, #list)
        assert.equal("a", list[1].name)
        assert.equal("", list[1].description)
        assert.equal(0, list[1].keys)
        assert.equal(0, list[1].bytes)
        assert.equal("b", list[2].name)
        assert.equal("B", list[2].description)
        assert.equal(1, list[2].keys)
        assert.equal(8, list[2].bytes)
        for _, info in ipairs(list) do
          assert(info.created_at > before - 30 and info.created_at < os.time() + 30)
        end
        store = new.again(store)
        assert.same(list, store:namespaces())
      end)

      it("counts bytes of keys, values and metadata", function()
        local ns = store:namespace("a")
        ns:put("abc", ("x"):rep(100), { metadata = { m = 1 } })
        assert.equal(3 + 100 + 7, store:namespaces()[1].bytes)
        ns:put("abc", "")
        assert.equal(3, store:namespaces()[1].bytes)
        ns:delete("abc")
        assert.equal(0, store:namespaces()[1].bytes)
      end)

      it("lists hundreds", function()
        for i = 1, 300 do
          store:namespace(("n%03d"):format(i), { description = ("d"):rep(i) }):put("k", i)
        end
        local list = store:namespaces()
        assert.equal(300, #list)
        for i, info in ipairs(list) do
          assert.equal(("n%03d"):format(i), info.name)
          assert.equal(i, #info.description)
          assert.equal(1, info.keys)
        end
      end)
    end)

    describe("drop", function()
      it("removes all at once and says how many", function()
        local ns = store:namespace("a")
        for i = 1, 100 do ns:put("k" .. i, i) end
        store:namespace("b"):put("k", 1)
        returns(100, store:drop("a"))
        returns(0, store:drop("a"))
        returns(0, store:drop("never"))
        assert.equal(1, #store:namespaces())
        assert.equal(1, store:namespace("b"):get("k"))
        store = new.again(store)
        assert.equal(1, #store:namespaces())
        assert.is_true(store:check())
      end)

      it("leaves handles that see it empty, and create it anew by a write", function()
        local ns = store:namespace("a", { description = "old" })
        local other = store:namespace("a")
        ns:put("k", 1)
        store:drop("a")
        for _, handle in ipairs { ns, other } do
          returns(nil, handle:get("k"))
          returns(false, handle:exists("k"))
          returns(nil, handle:entry("k"))
          returns(nil, handle:ttl("k"))
          returns(false, handle:delete("k"))
          returns(nil, handle:take("k"))
          returns(false, handle:expire("k", 5))
          returns(false, handle:persist("k"))
          returns(0, handle:count())
          returns({}, handle:keys())
          returns({}, handle:get_all())
          returns({}, handle:get_many { "k" })
          returns(0, handle:delete_many { "k" })
          returns(0, handle:clear())
          assert.is_true(handle:list().list_complete)
          for _ in handle:pairs() do error("not empty") end
        end
        assert.same({}, store:namespaces())
        assert(ns:put("new", 2))
        assert.equal(2, other:get("new"))
        assert.is_nil(other:get("k"))
        local list = store:namespaces()
        assert.equal(1, #list)
        assert.equal(1, list[1].keys)
        store = new.again(store)
        assert.equal(2, store:namespace("a"):get("new"))
        assert.is_nil(store:namespace("a"):get("k"))
        assert.is_true(store:check())
      end)

      it("ends iterators", function()
        local ns = store:namespace("a")
        for i = 1, 100 do ns:put("k" .. i, i) end
        local step = ns:pairs()
        step()
        store:drop("a")
        assert.is_nil((step()))
      end)

      it("many times leaves nothing", function()
        for i = 1, 50 do
          local ns = store:namespace("a")
          ns:put("k" .. i, ("x"):rep(100))
          ns:put("same", i)
          assert.equal(2, store:drop("a"))
        end
        assert.same({}, store:namespaces())
        assert.is_true(store:check())
      end)
    end)

    describe("rev", function()
      it("grows with every write and with nothing else", function()
        assert.equal("number", type(store:rev()))
        local ns = store:namespace("a")
        local rev = ns:put("k", 1)
        assert.equal(rev, store:rev())
        ns:get("k")
        ns:list()
        ns:delete("nothing")
        ns:put("k", 1, { set_if = "not_exist" })
        assert.equal(rev, store:rev())
        ns:delete("k")
        assert(store:rev() > rev)
        rev = store:rev()
        store = new.again(store)
        assert(store:rev() >= rev)
        assert(store:namespace("a"):put("k", 1) > rev)
      end)
    end)

    it("sync says true", function()
      store:namespace("a"):put("k", 1)
      returns(true, store:sync())
    end)

    it("tick says how many it did", function()
      local ns = store:namespace("a")
      for i = 1, 10 do ns:put("k" .. i, i) end
      assert.equal("number", type(store:tick(100)))
      assert.equal("number", type(store:tick()))
      assert.equal("number", type(store:tick(0)))
      for _, max in ipairs { -1, 0.5, "1", true } do raises("'max'", store.tick, store, max) end
      assert.equal(10, ns:count())
    end)

    it("stats counts", function()
      local ns = store:namespace("a")
      for i = 1, 10 do ns:put("k" .. i, "value") end
      local stats = store:stats()
      assert.equal(store:rev(), stats.rev)
      assert.equal(1, stats.namespaces)
      assert.equal(10, stats.keys)
      assert.equal(9 * 2 + 3 + 10 * 5, stats.data_bytes)
      assert(stats.log_bytes >= stats.used_bytes and stats.used_bytes >= stats.live_bytes)
      assert(stats.live_bytes >= stats.data_bytes)
      for name, value in pairs(stats) do
        assert.equal(name == "report" and "string" or "number", type(value), name)
      end
    end)

    it("check says true", function()
      local ns = store:namespace("a")
      returns(true, store:check())
      for i = 1, 1000 do ns:put("k" .. i % 100, ("x"):rep(i), { ttl = i }) end
      for i = 1, 100, 2 do ns:delete("k" .. i) end
      returns(true, store:check())
    end)

    describe("backup", function()
      after_each(helper.sweep)

      it("is a store that opens by itself", function()
        local ns = store:namespace("a", { description = "kept" })
        for i = 1, 100 do ns:put("k" .. i, { i = i }, { metadata = { m = i } }) end
        ns:put("short", 1, { ttl = 5000 })
        ns:delete("k1")
        store:namespace("b"):put("large", ("x"):rep(3000000))
        local path = helper.path()
        returns(101, store:backup(path))
        ns:put("later", 1)
        local copy = assert(kv.open(path))
        local other = copy:namespace("a")
        assert.equal(100, other:count())
        assert.is_nil(other:get("k1"))
        assert.is_nil(other:get("later"))
        for _, key in ipairs { "k2", "k100", "short" } do
          local a, b = ns:entry(key), other:entry(key)
          a.instance, b.instance = nil, nil
          assert.same(a, b)
        end
        assert.equal(3000000, #copy:namespace("b"):get("large"))
        assert.equal("kept", copy:namespaces()[1].description)
        assert(copy:rev() >= other:entry("short").rev)
        assert.is_true(copy:check())
        copy:close()
      end)

      it("refuses a directory that has something in it", function()
        store:namespace("a"):put("k", 1)
        local path = helper.path(true)
        os.execute("mkdir " .. helper.quote(path))
        helper.write_file(path .. "/file", "mine")
        local result, message, code = store:backup(path)
        assert.is_nil(result)
        assert.is_string(message)
        assert.is_string(code)
        os.remove(path .. "/file")
        returns(1, store:backup(path))
      end)

      it("raises for what is no path", function()
        for _, dir in ipairs { 5, true, "", "a\0" } do raises("'dir'", store.backup, store, dir) end
      end)
    end)

    describe("reopened", function()
      it("has everything: values, metadata, times, id, rev", function()
        local ns = store:namespace("a")
        ns:put("k", { x = { 1, 2.5, kv.null, true } }, { metadata = { m = 1 }, ttl = 5000 })
        ns:put("k", "second", { keep_ttl = true, metadata = { m = 2 } })
        ns:put("large", ("x"):rep(2000000))
        ns:put("gone", 1)
        ns:delete("gone")
        ns:incr("n", 5)
        local before = { ns:entry("k"), ns:entry("large"), ns:entry("n") }
        local rev = store:rev()
        for _ = 1, 3 do
          store = new.again(store)
          ns = store:namespace("a")
          assert.same(before, { ns:entry("k"), ns:entry("large"), ns:entry("n") })
          assert.equal(rev, store:rev())
          assert.equal(3, ns:count())
          assert.is_true(store:check())
        end
      end)

      it("many times, with a little written each time", function()
        for i = 1, 20 do
          store:namespace("a"):put("k" .. i, i)
          store:namespace("a"):delete("k" .. i - 10)
          store = new.again(store)
          assert.equal(math.min(i, 10), store:namespace("a"):count())
        end
        assert.is_true(store:check())
      end)
    end)

    it("takes overwrites without end in bounded space", function()
      local ns = store:namespace("a")
      local value = ("x"):rep(1000)
      for i = 1, 20000 do ns:put("k" .. i % 50, value) end
      local stats = store:stats()
      assert(stats.log_bytes < 8 * 1024 * 1024, "log of " .. stats.log_bytes)
      assert.equal(50, ns:count())
      assert.is_true(store:check())
    end)
  end)
end)
