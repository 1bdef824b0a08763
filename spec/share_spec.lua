-- One store in several processes, each a Lua of its own.

local helper = require "spec.helper"
local kv = require "kv"

-- Another process: runs code with kv and path. What is returned waits for it and gives what it
-- wrote.
local function begin(path, code)
  local head = ("local kv = require 'kv'\nlocal path = %q\n"):format(path)
  local command, script = helper.command(head .. code)
  local pipe = assert(io.popen(command))
  return function()
    local text = pipe:read "*a"
    pipe:close()
    os.remove(script)
    return text
  end
end

describe("one store in several processes", function()
  local path, store, ns

  before_each(function()
    path = helper.path()
    store = assert(kv.open(path))
    ns = store:namespace "n"
  end)

  after_each(function()
    store:close()
  end)

  it("counts what all of them count", function()
    local running = {}
    for i = 1, 4 do
      running[i] = begin(path, [[
        local ns = assert(kv.open(path)):namespace "n"
        for i = 1, 2000 do
          assert(ns:incr "sum")
          assert(ns:put("k" .. math.random(50), { i = i, text = ("x"):rep(i % 300) }))
          local v = ns:get("k" .. math.random(50))
          assert(v == nil or #v.text == v.i % 300)
        end
        io.write "done"
      ]])
    end
    for i = 1, 4 do
      assert.equal("done", running[i]())
    end
    assert.equal(8000, ns:get "sum")
    assert.is_true(store:check())
  end)

  it("shows each write at once, and rev tells of it", function()
    local rev = store:rev()
    begin(path, [[
      local store = assert(kv.open(path))
      local ns = store:namespace "n"
      ns:put("k", "there", { ttl = 100, metadata = { a = 1 } })
      store:namespace("other", { description = "made there" }):put("x", 1)
    ]])()
    assert(store:rev() > rev)
    assert.equal("there", ns:get "k")
    assert.same({ a = 1 }, ns:entry("k").metadata)
    assert.equal(1, store:namespace("other"):get "x")
    rev = store:rev()
    assert.equal("there", ns:get "k")
    assert.equal(rev, store:rev())
    begin(path, "kv.open(path):drop 'other'")()
    assert.is_nil(store:namespace("other"):get "x")
  end)

  it("hands cursors on", function()
    for i = 1, 30 do
      ns:put(("key%02d"):format(i), i)
    end
    local page = ns:list { limit = 10 }
    assert.equal("key11 key20", begin(path, ([[
      local page = kv.open(path):namespace("n"):list { limit = 10, cursor = %q }
      io.write(page.keys[1].name, " ", page.keys[10].name)
    ]]):format(page.cursor))())
  end)

  it("obeys a limit that another one sets", function()
    begin(path, "kv.open(path, { max_value = 100 })")()
    local rev, _, code = ns:put("k", ("x"):rep(101))
    assert.is_nil(rev)
    assert.equal("too_big", code)
    assert(ns:put("k", ("x"):rep(100)))
  end)

  it("is read by one that may not write, while others do", function()
    ns:put("k", 1)
    local reader = begin(path, [[
      local store = assert(kv.open(path, { readonly = true }))
      local ns = store:namespace "n"
      local _, _, code = ns:put("k", 2)
      io.write(tostring(code), " ")
      local before = os.time()
      while ns:get "k" ~= "end" do assert(os.time() < before + 20, "it never came") end
      io.write(tostring(store:check()))
    ]])
    for i = 1, 100 do
      ns:put("k", i)
    end
    ns:put("k", "end")
    assert.equal("readonly true", reader())
  end)

  it("loses nothing that was written when a process is killed", function()
    for round = 1, 5 do
      begin(path, ([[
        local ns = kv.open(path):namespace "n"
        for i = 1, 300 do ns:put("r%d-" .. i, i) end
        os.execute "kill -9 $PPID"
      ]]):format(round))()
      for i = 1, 300 do
        assert.equal(i, ns:get(("r%d-%d"):format(round, i)))
      end
    end
    assert.is_true(store:check())
  end)

  it("is backed up and checked while others write", function()
    local writer = begin(path, [[
      local ns = kv.open(path):namespace "n"
      for i = 1, 4000 do
        ns:put_many { a = i, b = i, ["c" .. i % 100] = ("x"):rep(i % 500) }
      end
    ]])
    for i = 1, 3 do
      assert.is_true(store:check())
      local dir = helper.path()
      assert(store:backup(dir))
      local copy = assert(kv.open(dir))
      local there = copy:namespace "n"
      assert.equal(there:get "a", there:get "b", "a batch is whole in backup " .. i)
      copy:close()
    end
    writer()
    assert.equal(4000, ns:get "a")
    assert.is_true(store:check())
  end)

  it("is not replayed by whoever comes next", function()
    for i = 1, 100 do
      ns:put("k" .. i, i)
    end
    local code = [[
      local store = assert(kv.open(path))
      io.write(store:stats().replayed, " ", store:namespace("n"):count())
    ]]
    assert.equal("0 100", begin(path, code)())
    store:close()
    assert.equal("0 100", begin(path, code)())
    os.execute(("rm -f '%s'/index.*"):format(path))
    assert.equal("101 100", begin(path, code)())
  end)
end)
