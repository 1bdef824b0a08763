-- SPDX-License-Identifier: MIT
--
-- instances_spec.lua - named stores under one directory: kv.instances.

local kv = require "kv"
local helper = require "helper"

local fails, raises, returns = helper.fails, helper.raises, helper.returns

-- Lines that a command prints.
local function lines(command)
  local all = {}
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do all[#all + 1] = line end
  pipe:close()
  return all
end

local function names(root)
  return lines("ls -A " .. helper.quote(root) .. " 2>/dev/null")
end

describe("kv.instances", function()
  local root, all, opened

  before_each(function()
    root = helper.path() .. "/instances"
    all = kv.instances(root)
    opened = {}
  end)
  after_each(function()
    for _, store in ipairs(opened) do store:close() end
  end)
  teardown(helper.sweep)

  local function open(id, opts)
    local store, message, code = all:open(id, opts)
    if store then opened[#opened + 1] = store end
    return store, message, code
  end

  local function make(id)
    local store = assert(open(id, { auto_create = true, sync = "none" }))
    store:namespace("a"):put("id", id)
    store:close()
  end

  it("makes nothing by itself", function()
    returns({}, all:list())
    assert.same({}, names(root))
    assert.is_false(all:delete("a"))
  end)

  it("makes a missing instance only when asked to", function()
    fails("not_found", open("a"))
    fails("not_found", open("a", { auto_create = false }))
    assert.same({}, names(root))
    local store = assert(open("a", { auto_create = true }))
    store:namespace("n"):put("k", 1)
    store:close()
    store = assert(open("a"))
    assert.equal(1, store:namespace("n"):get("k"))
    store:close()
    assert(open("a", { auto_create = true })):close()
    returns({ "a" }, all:list())
  end)

  it("reports its id in each record, also to a bound table", function()
    local id = "tenant/\0\255"
    local ns = assert(open(id, { auto_create = true })):namespace("n")
    ns:put("k", 1)
    assert.equal(id, ns:entry("k").instance)
    assert.equal(id, ns:bind().get_with_metadata("k").instance)
  end)

  it("takes the options of kv.open", function()
    local store = assert(open("a", { auto_create = true, max_value = 100, sync = "none" }))
    fails("too_big", store:namespace("n"):put("k", ("x"):rep(101)))
    store:close()
    store = assert(open("a", { readonly = true }))
    fails("readonly", store:namespace("n"):put("k", 1))
    store:close()
    raises({ "'autoCreate'", "'auto_create'" }, all.open, all, "a", { autoCreate = true })
    raises({ "'autoCreateInstance'", "'auto_create'" }, all.open, all, "a",
      { autoCreateInstance = true })
    raises({ "'create'", "'auto_create'" }, all.open, all, "a", { create = true })
    raises("'auto_create'", all.open, all, "a", { auto_create = 1 })
    raises("'sync'", all.open, all, "a", { sync = "sometimes" })
    raises("'options'", all.open, all, "a", true)
  end)

  it("takes ids of any bytes, none of which leads out of the root", function()
    local ids = {
      ".", "..", "...", "../x", "../../etc/passwd", "/", "//", "/etc", "a/b", "a/../b", "./a",
      "a/.", "\0", "a\0b", "\n", " ", "~", "$HOME", "`ls`", "%", "%2e", "%2e%2e", "=", "=61",
      "a", "A", "aa", "AA", "aA", "con", "nul", "lock", "meta", ".hidden", ".kv-deleted-0",
      "caf\195\169", "cafe\204\129", "\255\254", ("x"):rep(120), ("X"):rep(120),
      ("\0"):rep(120), ("."):rep(120),
      ("/"):rep(120), ("ab"):rep(60), ("aB"):rep(60),
    }
    for _, id in ipairs(ids) do make(id) end
    table.sort(ids)
    returns(ids, all:list())
    -- Nothing anywhere but one directory for each, whose names differ in more than their case.
    local found = names(root)
    assert.equal(#ids, #found)
    local lower = {}
    for _, name in ipairs(found) do
      assert(#name <= 255)
      assert(not lower[name:lower()], name)
      lower[name:lower()] = true
    end
    assert.same({ "instances" }, names(root:match("^(.*)/")))
    for _, id in ipairs(ids) do
      local store = assert(open(id, { sync = "none" }))
      assert.equal(id, store:namespace("a"):get("id"))
      store:close()
      returns(true, all:delete(id))
      fails("not_found", open(id))
    end
    returns({}, all:list())
    assert.same({}, names(root))
  end)

  it("keeps apart random ids (seed printed)", function()
    local seed = tonumber(os.getenv("SEED")) or os.time()
    io.write("seed ", seed, "\n")
    math.randomseed(seed)
    local alphabet = { "a", "A", ".", "/", "%", "=", "\0", "2", "e", "E", "\255", "-", "_" }
    local ids, sorted = {}, {}
    for _ = 1, 15 do
      local t = {}
      local len = math.random(4) == 1 and math.random(100, 120) or math.random(1, 4)
      for i = 1, len do t[i] = alphabet[math.random(#alphabet)] end
      local id = table.concat(t)
      if not ids[id] then
        ids[id] = true
        sorted[#sorted + 1] = id
        make(id)
      end
    end
    table.sort(sorted)
    returns(sorted, all:list())
    for id in pairs(ids) do assert.equal(id, assert(open(id)):namespace("a"):get("id")) end
  end)

  it("refuses what is no id", function()
    for _, name in ipairs { "open", "delete" } do
      raises({ "'id'", "1 to 120 bytes" }, all[name], all)
      raises("'id'", all[name], all, 5)
      raises("'id'", all[name], all, "")
      raises("'id'", all[name], all, {})
      fails("too_big", all[name](all, ("x"):rep(121)))
    end
    assert.same({}, names(root))
  end)

  it("refuses what is no root, and a dot for a colon", function()
    raises("'root'", kv.instances)
    raises("'root'", kv.instances, "")
    raises("'root'", kv.instances, "a\0b")
    raises("'root'", kv.instances, 5)
    raises("'root'", kv.instances, ":memory:")
    raises("kv:instances", kv.instances, kv, root)
    for _, name in ipairs { "open", "list", "delete" } do
      raises({ "instances:" .. name, "instances." .. name }, all[name], "a")
      raises("instances:" .. name, all[name])
      raises("instances:" .. name, all[name], {}, "a")
    end
    assert.is_false(getmetatable(all))
    assert.truthy(tostring(all):find(root, 1, true))
  end)

  it("lists only stores", function()
    make("a")
    helper.write_file(root .. "/file", "x")
    os.execute("cd " .. helper.quote(root)
      .. " && mkdir empty B %zz .dot && ln -s a link && cp -r a other && cp -r a UPPER")
    returns({ "a", "other" }, all:list())
    fails("not_found", open("missing"))
    fails("unsupported", open("file"))
    -- An empty directory is no instance, and stays empty.
    fails("not_found", open("empty"))
    assert.same({}, names(root .. "/empty"))
    returns(false, all:delete("empty"))
    assert(open("empty", { auto_create = true })):close()
    returns({ "a", "empty", "other" }, all:list())
  end)

  it("says when the root cannot be read", function()
    os.execute("mkdir -p " .. helper.quote(root:match("^(.*)/")))
    helper.write_file(root, "a file")
    local ids, message, code = all:list()
    assert.is_nil(ids)
    assert.is_string(message)
    assert.equal("io", code)
  end)

  describe("delete", function()
    it("removes all of it", function()
      local store = assert(open("a", { auto_create = true }))
      store:namespace("n"):put("large", ("x"):rep(3 * 1024 * 1024))
      store:close()
      make("b")
      returns(true, all:delete("a"))
      returns(false, all:delete("a"))
      assert.same({ "b" }, names(root))
      returns({ "b" }, all:list())
      -- And a new one of that id is new.
      store = assert(open("a", { auto_create = true }))
      assert.is_nil(store:namespace("n"):get("large"))
    end)

    it("leaves what is open, here or elsewhere", function()
      local store = assert(open("a", { auto_create = true }))
      store:namespace("n"):put("k", 1)
      fails("busy", all:delete("a"))
      assert.equal(1, store:namespace("n"):get("k"))
      local ns = store:namespace("n")
      opened = {}
      store = nil -- luacheck: ignore 311
      for _ = 1, 4 do collectgarbage() end
      fails("busy", all:delete("a")) -- a namespace keeps it open
      assert.equal(1, ns:get("k"))
      ns = nil -- luacheck: ignore 311
      for _ = 1, 4 do collectgarbage() end
      assert.equal("true", helper.run(([[
        local kv = require "kv"
        local all = kv.instances(%q)
        local store = assert(all:open("a"))
        os.execute(%q)
        io.write(tostring(store:namespace("n"):get("k") == 1))
      ]]):format(root, "true")))
      returns(true, all:delete("a"))
    end)

    it("leaves what another process has open", function()
      make("a")
      local pipe = assert(io.popen((helper.command(([[
        local store = assert(require("kv").instances(%q):open("a"))
        io.write("open\n")
        io.flush()
        local stop = io.open(%q)
        while not stop do stop = io.open(%q) end
        io.write(tostring(store:namespace("a"):get("id")), "\n")
      ]]):format(root, root .. "-stop", root .. "-stop")))))
      assert.equal("open", pipe:read("*l"))
      fails("busy", all:delete("a"))
      helper.write_file(root .. "-stop", "")
      assert.equal("a", pipe:read("*l"))
      pipe:close()
      returns(true, all:delete("a"))
    end)

    it("follows no symbolic link, and deletes no file that is not the store's", function()
      make("a")
      os.execute(("cd %s && mkdir out && cp -r a/. out/ && ln -s out link"):format(
        helper.quote(root)))
      fails("unsupported", all:delete("link"))
      assert.same({ "a", "link", "out" }, names(root))
      helper.write_file(root .. "/out/mine", "precious")
      fails("unsupported", all:delete("out"))
      os.remove(root .. "/out/mine")
      os.execute(("cd %s && mkdir keep && touch keep/x && ln -s ../keep out/log.00000099"):format(
        helper.quote(root)))
      returns(true, all:delete("out"))
      assert.same({ "x" }, names(root .. "/keep"))
      fails("unsupported", all:delete("keep"))
    end)

    it("sweeps up what a death left of an earlier one", function()
      make("a")
      make("b")
      os.rename(root .. "/a", root .. "/.kv-deleted-0123456789abcdef")
      os.remove(root .. "/.kv-deleted-0123456789abcdef/meta")
      returns({ "b" }, all:list())
      fails("not_found", open("a"))
      returns(true, all:delete("b"))
      assert.same({}, names(root))
    end)

    it("removes a damaged store", function()
      make("a")
      helper.write_file(root .. "/a/meta", ("x"):rep(8192))
      returns({ "a" }, all:list())
      local store, _, code = open("a")
      assert.is_nil(store)
      assert.truthy(code == "corrupt" or code == "unsupported", code)
      if code == "corrupt" then returns(true, all:delete("a")) end
    end)
  end)
end)
