-- SPDX-License-Identifier: MIT
--
-- Values in pieces: put of a reader, writer(), get(key, "stream").

local helper = require "helper"
local kv = require "kv"

local CHUNK = 65536

-- Bytes that tell where they are, of any length.
local function bytes(n, seed)
  local t, x = {}, seed or 1
  for i = 1, math.ceil(n / 64) do
    x = (x * 1103515245 + 12345) % 2147483648
    t[i] = ("%08d%08x"):format(i, x):rep(4)
  end
  return table.concat(t):sub(1, n)
end

-- An LTN12 source of the text in pieces of n bytes.
local function pieces(text, n)
  local at = 1
  return function()
    if at > #text then return nil end
    at = at + n
    return text:sub(at - n, at - 1)
  end
end

local function drain(stream, n)
  local t = {}
  for chunk in function() return stream:read(n) end do t[#t + 1] = chunk end
  return table.concat(t)
end

-- Runs f in a coroutine until it ends, answering each yield with what `answer` returns for it.
local function drive(f, answer)
  local co = coroutine.create(f)
  local function go_on(ok, ...)
    assert(ok, ...)
    if coroutine.status(co) == "dead" then return ... end
    return go_on(coroutine.resume(co, answer(...)))
  end
  return go_on(coroutine.resume(co))
end

local function blobs(path)
  local n = 0
  local pipe = io.popen("ls " .. helper.quote(path))
  for name in pipe:lines() do
    if name:find "^blob%." or name:find "^part%." then n = n + 1 end
  end
  pipe:close()
  return n
end

describe("a stream", function()
  helper.each_store(function(new)
    local store, ns

    before_each(function()
      store = new { max_value = 64 * 1024 * 1024 }
      ns = store:namespace "files"
    end)

    local function leaves_nothing()
      assert.is_nil(ns:get "k")
      if new.reopens then assert.equal(0, blobs(new.path)) end
      assert.is_true(store:check())
    end

    describe("put", function()
      for _, size in ipairs { 0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 300000, 3145745 } do
        it(("takes a function that returns %d bytes"):format(size), function()
          local text = bytes(size)
          for _, step in ipairs { 1000, CHUNK, 1000000 } do
            local rev = ns:put("k", pieces(text, step))
            helper.returns(store:rev(), rev)
            assert(ns:get "k" == text)
          end
          assert.is_true(store:check())
          assert(new.again(store):namespace "files":get "k" == text)
        end)
      end

      it("takes a file", function()
        local path = helper.path(true)
        local text = bytes(500000)
        helper.write_file(path, text)
        local file = assert(io.open(path, "rb"))
        assert(ns:put("k", file))
        assert(ns:get "k" == text)
        assert.equal("file", io.type(file))
        file:close()
      end)

      it("takes an object with read, its own or inherited", function()
        local class = {}
        class.__index = class
        function class:read(n)
          assert.equal(CHUNK, n)
          self.left = self.left - 1
          return self.left >= 0 and "ab" or nil
        end
        assert(ns:put("k", setmetatable({ left = 3 }, class)))
        assert.equal("ababab", ns:get "k")
        assert(ns:set("k", { left = 1, read = class.read }))
        assert.equal("ab", ns:get "k")
        local derived = setmetatable({}, class)
        derived.__index = derived
        assert(ns:put("k", setmetatable({ left = 2 }, derived)))
        assert.equal("abab", ns:get "k")
      end)

      it("takes empty chunks for what they are", function()
        local chunks = { "", "a", "", "b", "" }
        assert(ns:put("k", function() return table.remove(chunks, 1) end))
        assert.equal("ab", ns:get "k")
      end)

      it("copies one key to another", function()
        local text = bytes(1000000)
        ns:put("a", text)
        assert(ns:put("b", ns:get("a", "stream")))
        assert(ns:get "b" == text)
      end)

      it("is a table when the table has no read", function()
        ns:put("k", { read = "no", write = 1 })
        assert.same({ read = "no", write = 1 }, ns:get "k")
        local mt = { __index = function() error "asked" end }
        assert(ns:put("k", setmetatable({ a = 1 }, mt)))
        assert.same({ a = 1 }, ns:get "k")
      end)

      it("knows the options of put", function()
        local text = bytes(700000)
        ns:put("k", pieces(text, CHUNK), { ttl = 100, metadata = { a = 1 } })
        local entry = ns:entry "k"
        assert.same({ a = 1 }, entry.metadata)
        assert.is_true(entry.expiration > entry.updated_at + 99)
        helper.refuses("exists", ns:put("k", pieces(text, CHUNK), { set_if = "not_exist" }))
        helper.refuses("conflict", ns:put("k", pieces(text, CHUNK), { if_rev = entry.rev + 1 }))
        helper.refuses("not_found", ns:put("l", pieces(text, CHUNK), { set_if = "exist" }))
        if new.reopens then assert.equal(1, blobs(new.path)) end
        assert(ns:put("k", pieces("short", 2), { if_rev = entry.rev, keep_ttl = true }))
        assert.is_true(ns:ttl "k" > 98)
        assert.is_nil(ns:entry("k").metadata)
        helper.fails("out_of_range", ns:put("k", pieces(text, CHUNK), { expiration = 1 }))
        assert.equal("short", ns:get "k")
      end)

      it("stores a document with as = json, and checks it", function()
        assert(ns:put("k", pieces('{"a": [1, 2 ]}', 3), { as = "json" }))
        assert.same({ a = kv.array { 1, 2 } }, ns:get "k")
        assert.equal('{"a": [1, 2 ]}', ns:get("k", "text"))
        local long = "[" .. ("1,"):rep(300000) .. "2]"
        assert(ns:put("k", pieces(long, CHUNK), { as = "json" }))
        assert(ns:get("k", "text") == long)
        helper.fails("not_json", ns:put("k", pieces(long .. "x", CHUNK), { as = "json" }))
        helper.fails("not_json", ns:put("k", pieces("", 1), { as = "json" }))
        helper.fails("too_deep", ns:put("k", pieces(("["):rep(200), 7), { as = "json" }))
        assert(ns:get("k", "text") == long)
      end)

      it("looks at conditions when it commits", function()
        local rev = ns:put("k", 1)
        helper.refuses("conflict", ns:put("k", function()
          if rev then
            rev = nil
            ns:put("k", 2)
            return "x"
          end
        end, { if_rev = rev }))
        assert.equal(2, ns:get "k")
      end)

      it("stops early at max_value", function()
        store = new { max_value = 200000 }
        ns = store:namespace "files"
        local read = 0
        helper.fails("too_big", ns:put("k", function()
          read = read + 1
          return ("x"):rep(1000)
        end))
        assert.equal(201, read)
        leaves_nothing()
        assert(ns:put("k", pieces(("x"):rep(200000), 999)))
      end)

      it("is full at max_size", function()
        store = new { max_size = 500000 }
        ns = store:namespace "files"
        helper.fails("full", ns:put("k", pieces(bytes(600000), CHUNK)))
        leaves_nothing()
        assert(ns:put("k", pieces(bytes(400000), CHUNK)))
      end)
    end)

    describe("that fails", function()
      local function fail_after(n, failure)
        return function()
          n = n - 1
          if n < 0 then return failure() end
          return ("x"):rep(100000)
        end
      end

      for _, n in ipairs { 0, 1, 30 } do
        it(("after %d chunks leaves nothing"):format(n), function()
          local thrown = {}
          local ok, err = pcall(ns.put, ns, "k", fail_after(n, function() error(thrown) end))
          assert.is_false(ok)
          assert.equal(thrown, err)
          leaves_nothing()

          ok, err = pcall(ns.put, ns, "k", fail_after(n, function() error("here", 0) end))
          assert.is_false(ok)
          assert.equal("here", err)

          local result, message, code =
            ns:put("k", fail_after(n, function() return nil, "gone" end))
          assert.same({ nil, "gone", "io" }, { result, message, code })
          leaves_nothing()

          result, message, code =
            ns:put("k", fail_after(n, function() return nil, "x", "corrupt" end))
          assert.same({ nil, "x", "corrupt" }, { result, message, code })

          ok, err = pcall(ns.put, ns, "k", fail_after(n, function() return 42 end))
          assert.is_false(ok)
          assert.matches("'value'.*must return strings and then nil, not a number", err)
          leaves_nothing()
        end)
      end

      it("leaves the value of before", function()
        ns:put("k", "before")
        pcall(ns.put, ns, "k", fail_after(20, function() error "x" end))
        assert.equal("before", ns:get "k")
      end)

      it("reads a directory", function()
        local file = assert(io.open("/", "rb"))
        helper.fails("io", ns:put("k", file))
        file:close()
      end)

      it("finds the store closed by its reader", function()
        local ok, err = pcall(ns.put, ns, "k", function()
          store:close()
          return "x"
        end)
        assert.is_false(ok)
        assert.matches("closed", err)
      end)
    end)

    describe("whose reader yields", function()
      local function yielding() return coroutine.yield "more" end

      it("is put all the same", function()
        for _, put in ipairs { function(...) return ns:put(...) end, ns:bind().put } do
          local text, at = bytes(1000000), 0
          local rev = drive(function() return put("k", yielding, { ttl = 50 }) end, function(asked)
            assert.equal("more", asked)
            at = at + 1
            local chunk = text:sub((at - 1) * 70000 + 1, at * 70000)
            return chunk ~= "" and chunk or nil
          end)
          assert.equal(store:rev(), rev)
          assert(ns:get "k" == text)
          ns:delete "k"
        end
      end)

      it("may raise and fail as any other", function()
        local ok, err = drive(function()
          return pcall(function()
            coroutine.yield "once"
            return 1
          end)
        end, function() end)
        if not ok then assert.matches("yield", err) end -- Lua 5.1: only what needs no pcall
        local co = coroutine.create(function()
          return ns:put("k", function()
            coroutine.yield()
            error("late", 0)
          end)
        end)
        assert(coroutine.resume(co))
        assert.same({ false, "late" }, { coroutine.resume(co) })
        leaves_nothing()
        local result, message, code = drive(function()
          return ns:put("k", yielding)
        end, function() return nil, "no more", "full" end)
        assert.same({ nil, "no more", "full" }, { result, message, code })
        leaves_nothing()
      end)

      it("may be left hanging", function()
        local co = coroutine.create(function() return ns:put("k", yielding) end)
        assert(coroutine.resume(co))
        for _ = 1, 40 do assert(coroutine.resume(co, ("x"):rep(100000))) end
        co = nil -- luacheck: ignore 311
        collectgarbage()
        collectgarbage()
        leaves_nothing()
      end)
    end)

    describe("writer", function()
      it("writes a value in pieces", function()
        local text = bytes(2000000)
        local w = assert(ns:writer("k", { ttl = 9, metadata = { b = 2 } }))
        assert.equal(w, w:write(text:sub(1, 10)))
        assert.equal(w, w:write(text:sub(11, 20), text:sub(21, 1000000)):write(text:sub(1000001)))
        assert.is_nil(ns:get "k")
        helper.returns(store:rev() + 1, w:commit())
        assert(ns:get "k" == text)
        assert.same({ b = 2 }, ns:entry("k").metadata)
        assert.is_true(ns:ttl "k" <= 9)
        helper.returns(true, w:close())
      end)

      it("is dropped by close, by garbage collection, and by closing the store", function()
        local w = ns:writer "k"
        w:write(bytes(2000000))
        helper.returns(true, w:close())
        helper.returns(true, w:close())
        leaves_nothing()
        w = ns:writer "k"
        w:write(bytes(2000000))
        w = nil -- luacheck: ignore 311
        collectgarbage()
        collectgarbage()
        leaves_nothing()
        w = ns:writer "k"
        w:write(bytes(2000000))
        store:close()
        helper.raises("closed", w.write, w, "x")
        helper.raises("closed", w.commit, w)
        helper.returns(true, w:close())
        if new.reopens then assert.equal(0, blobs(new.path)) end
      end)

      it("ends with commit, whatever came of it", function()
        local w = ns:writer("k", { set_if = "exist" })
        w:write "x"
        helper.refuses("not_found", w:commit())
        helper.raises("closed", w.commit, w)
        helper.raises("closed", w.write, w, "x")
        leaves_nothing()
      end)

      it("fails to the end once it failed", function()
        store = new { max_value = 100 }
        ns = store:namespace "files"
        local w = ns:writer "k"
        helper.fails("too_big", w:write(("x"):rep(101)))
        helper.fails("too_big", w:write "x")
        helper.fails("too_big", w:commit())
        leaves_nothing()
      end)

      it("is an LTN12 sink", function()
        local text = bytes(300000)
        local sink, source = ns:writer "k", pieces(text, 5000)
        while true do -- ltn12.pump.all
          local chunk, err = source()
          assert(sink(chunk, err))
          if not chunk then break end
        end
        assert(ns:get "k" == text)
        sink = ns:writer "l"
        assert(sink "x")
        assert(sink(nil, "the source failed"))
        assert.is_nil(ns:get "l")
      end)

      it("raises for a caller's mistakes", function()
        helper.raises("'key'", ns.writer, ns, 5)
        helper.raises("'ttl'", ns.writer, ns, "k", { ttl = -1 })
        helper.raises({ "tll", "ttl" }, ns.writer, ns, "k", { tll = 1 })
        helper.raises("use ns:writer", ns.writer, "k")
        local w = ns:writer "k"
        helper.raises("'chunk'", w.write, w, 5)
        helper.raises("'chunk'", w.write, w)
        helper.raises("use stream:write", w.write, "x")
        helper.raises("use stream:write", w.write, ns, "x")
        helper.fails("too_big", ns:writer(("k"):rep(513)))
        helper.fails("too_big", ns:writer("k", { metadata = { a = ("x"):rep(2000) } }))
      end)

      it("keeps its store open, whatever goes first", function()
        ns:put("r", bytes(200000))
        local w, r = ns:writer "k", ns:get("r", "stream")
        ns, store = nil, nil -- luacheck: ignore 311
        collectgarbage()
        collectgarbage()
        w:write "abc"
        assert.is_true(w:commit() > 0)
        assert.equal(200000, #drain(r))
      end)
    end)

    describe("get", function()
      it("reads in pieces of any size", function()
        for _, size in ipairs { 0, 1, 1000, CHUNK, 1500000 } do
          local text = bytes(size)
          ns:put("k", text)
          for _, n in ipairs { 999, CHUNK - 1, CHUNK, CHUNK + 1, 10 * 1000 * 1000 } do
            assert(drain(ns:get("k", "stream"), n) == text)
          end
          assert(drain(ns:get("k", "stream")) == text)
          local parts = {}
          for chunk in ns:get("k", "stream") do
            assert.is_true(#chunk == CHUNK or #chunk == size % CHUNK)
            parts[#parts + 1] = chunk
          end
          assert(table.concat(parts) == text)
        end
      end)

      it("says nil at the end, again and again", function()
        ns:put("k", "abc")
        local r = ns:get("k", "stream")
        helper.returns("", r:read(0))
        helper.returns("abc", r:read(3))
        helper.returns(nil, r:read())
        helper.returns(nil, r:read(0))
        helper.returns(nil, r())
        helper.raises("'n'", r.read, r, -1)
        helper.raises("'n'", r.read, r, "x")
        helper.raises("'n'", r.read, r, 1.5)
      end)

      it("is nil for a key that is not there", function()
        helper.returns(nil, ns:get("none", "stream"))
        helper.returns(nil, ns:entry("none", "stream"))
      end)

      it("spells what is no string", function()
        for _, case in ipairs { { 42, "42" }, { 1.5, "1.5" }, { true, "true" }, { kv.null, "null" },
            { { a = 1 }, '{"a":1}' } } do
          ns:put("k", case[1])
          assert.equal(case[2], ns:get("k", "stream"):read())
        end
      end)

      it("is the value of that moment", function()
        for _, size in ipairs { 100, 1000000 } do
          local text = bytes(size)
          ns:put("k", text, { ttl = 100 })
          local streams = {}
          for i = 1, 4 do streams[i] = ns:get("k", "stream") end
          assert(streams[1]:read(50) == text:sub(1, 50))
          ns:put("k", bytes(size, 7))
          assert(drain(streams[1]) == text:sub(51))
          ns:delete "k"
          assert(drain(streams[2]) == text)
          store:drop "files"
          assert(drain(streams[3]) == text)
          for _ = 1, 30 do ns:put("other", bytes(300000)) end
          store:tick()
          store:sync()
          store:tick()
          assert(drain(streams[4]) == text)
        end
      end)

      it("comes with the entry, too", function()
        ns:put("k", bytes(400000), { metadata = { m = "x" }, ttl = 10 })
        local entry = ns:entry("k", "stream")
        assert.same({ m = "x" }, entry.metadata)
        assert.equal(store:rev(), entry.rev)
        assert(drain(entry.value) == bytes(400000))
      end)

      it("reads lines", function()
        local function lines(text)
          ns:put("k", text)
          local t = {}
          for line in ns:get("k", "stream"):lines() do t[#t + 1] = line end
          return t
        end
        assert.same({}, lines "")
        assert.same({ "" }, lines "\n")
        assert.same({ "a" }, lines "a")
        assert.same({ "a", "", "b\r" }, lines "a\n\nb\r\n")
        assert.same({ "a\0b", "c" }, lines "a\0b\nc")
        local long, expected = {}, {}
        for i = 1, 400 do
          expected[i] = bytes(i * 37 % 5000, i)
          long[i] = expected[i] .. "\n"
        end
        assert.same(expected, lines(table.concat(long)))
        ns:put("k", "1\n2\n345")
        local r = ns:get("k", "stream")
        local next_line = r:lines()
        assert.equal("1", next_line())
        assert.equal("2\n", r:read(2))
        assert.equal("345", next_line())
        assert.is_nil(next_line())
        r:close()
        assert.has_error(next_line)
      end)

      it("is closed once closed", function()
        ns:put("k", bytes(200000))
        local r = ns:get("k", "stream")
        helper.returns(true, r:close())
        helper.returns(true, r:close())
        helper.raises("closed", r.read, r)
        helper.raises("closed", r)
        helper.raises("closed", r.lines, r)
        r = ns:get("k", "stream")
        store:close()
        helper.raises("closed", r.read, r)
      end)
    end)

    it("is not what swap, put_many and documents take", function()
      local function reader() end
      helper.raises("function", ns.swap, ns, "k", reader)
      assert.has_error(function() ns:put_many { k = reader } end)
      assert.has_error(function() ns:put("k", { a = reader }) end)
      helper.raises("'as'", ns.get, ns, "k", "streams")
    end)

    it("gives a bound handle nothing more", function()
      local b = ns:bind()
      local text = bytes(300000)
      assert(b.put("k", pieces(text, CHUNK)))
      local r = b.get("k", "stream")
      assert(drain(r) == text)
      assert.is_false(getmetatable(r))
      local w = b.writer "l"
      assert.is_false(getmetatable(w))
      assert.is_false(pcall(function() r.read = 1 end))
      w:write(text)
      assert(w:commit())
      helper.raises("use kv.writer", b.writer, b, "k")
    end)
  end)

  it("of a damaged value fails at the damage, with no wrong byte before it", function()
    local path = helper.path()
    local store = assert(kv.open(path))
    local text = bytes(1000000)
    store:namespace "a":put("k", text)
    store:close()
    local pipe = io.popen("ls " .. helper.quote(path) .. "/blob.*")
    local name = pipe:read "*l"
    pipe:close()
    local file = assert(io.open(name, "r+b"))
    file:seek("set", 64 + 65540 * 5 + 777)
    file:write "!"
    file:close()
    store = assert(kv.open(path))
    local r = store:namespace "a":get("k", "stream")
    for i = 0, 4 do assert(r:read() == text:sub(i * CHUNK + 1, (i + 1) * CHUNK)) end
    helper.fails("corrupt", r:read())
    helper.fails("corrupt", r:read(10))
    helper.fails("corrupt", r())
    helper.fails("corrupt", store:namespace "b":put("k", r))
    assert.has_error(r:lines())
    store:close()
    helper.sweep()
  end)

  -- From a file into a value and out again, in a process of its own, which looks at its memory at
  -- every piece. KV_LONG=1: 1 GiB.
  it("needs little memory, however large the value", function()
    local size = os.getenv "KV_LONG" and 1024 * 1024 * 1024 or 40 * 1024 * 1024
    local path = helper.path(true)
    local dir = path:match "^(.*)/"
    local made = assert(io.open(dir .. "/in", "wb")) -- mostly a hole
    made:write "begin"
    made:seek("set", size - 103)
    made:write "end"
    made:close()
    local said = helper.run(([[
      local kv = require "kv"
      local dir, most, first = %q, 0, nil
      local function look()
        local status = io.open "/proc/self/status"
        local kib = tonumber(status:read("*a"):match "RssAnon:%%s*(%%d+)")
        status:close()
        first = first or kib
        most = math.max(most, kib - first)
      end
      local store = kv.open(dir .. "/store", { max_value = 1024 * 1024 * 1024 })
      local ns = store:namespace "a"
      ns:put("small", 1)
      look()
      local file = assert(io.open(dir .. "/in", "rb"))
      assert(ns:put("k", function()
        look()
        return file:read(65536)
      end))
      file:close()
      local out = assert(io.open(dir .. "/out", "wb"))
      for chunk in ns:get("k", "stream") do
        look()
        assert(out:write(chunk))
      end
      out:close()
      store:close()
      io.write("most ", most, " KiB")
    ]]):format(dir))
    local most = tonumber(said:match "^most (%d+) KiB$")
    assert(most, said)
    -- A sanitizer keeps what was freed.
    assert(most < 16 * 1024 or (os.getenv "LD_PRELOAD" or "") ~= "", said)
    local same = os.execute(("cmp %s/in %s/out"):format(dir, dir))
    assert(same == true or same == 0)

    -- Nor do those who read all of a store hold such a value: with less memory than it needs.
    local command, script = helper.command(([[
      local store = require "kv".open(%q .. "/store")
      assert(store:check())
      assert(store:backup(%q .. "/copy") == 2)
      assert(require "kv".open(%q .. "/copy"):check())
      io.write "checked and copied"
    ]]):format(dir, dir, dir))
    local limit = (os.getenv "LD_PRELOAD" or "") == "" and "ulimit -d 36000; " or ""
    local pipe = io.popen(limit .. command)
    assert.equal("checked and copied", pipe:read "*a")
    pipe:close()
    os.remove(script)
    helper.sweep()
  end)

  it("of a store that takes no writes is refused", function()
    local path = helper.path()
    local store = assert(kv.open(path))
    store:namespace "a":put("k", bytes(300000))
    store:close()
    store = assert(kv.open(path, { readonly = true }))
    local ns = store:namespace("a", { create = false })
    helper.fails("readonly", ns:writer "k")
    local asked = false
    helper.fails("readonly", ns:put("k", function() asked = true end))
    assert.is_false(asked)
    assert(drain(ns:get("k", "stream")) == bytes(300000))
    store:close()
    helper.sweep()
  end)

  local function die_writing(path)
    kv.open(path):close()
    local said = helper.run(([[
      local ns = require "kv".open(%q):namespace "a"
      local w = ns:writer "k"
      w:write(("x"):rep(3000000))
      io.write "written"
      io.stdout:flush()
      io.popen("kill -9 $PPID"):read "*a"
    ]]):format(path))
    assert.matches("^written", said)
    assert.equal(1, blobs(path))
  end

  it("whose process dies goes with its store", function()
    local root = helper.path(true):gsub("/store$", "")
    local all = kv.instances(root)
    all:open("x", { auto_create = true }):close()
    local pipe = io.popen("ls " .. helper.quote(root))
    die_writing(root .. "/" .. pipe:read "*l")
    pipe:close()
    assert.is_true(all:delete "x")
    assert.same({}, all:list())
    helper.sweep()
  end)

  it("whose process dies is swept up at the next opening", function()
    local path = helper.path()
    die_writing(path)
    local store = assert(kv.open(path))
    assert.equal(0, blobs(path))
    assert.is_nil(store:namespace "a":get "k")
    assert.is_true(store:check())
    store:close()
    helper.sweep()
  end)
end)
