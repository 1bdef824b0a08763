-- SPDX-License-Identifier: MIT
--
-- json_process_spec.lua - eight processes edit one document at the same time: nothing is lost.

local kv = require "kv"
local helper = require "helper"

local processes = 8
local edits = os.getenv("KV_SHORT") and 10 or 60

describe("processes that edit one document", function()
  teardown(helper.sweep)

  it("lose nothing", function()
    local path = helper.path(true)
    local store = assert(kv.open(path))
    local ns = store:namespace("shared")
    ns:put("doc", '{"n":0 , "untouched" : 1.0, "list":[]}', { as = "json" })
    local script = path .. ".lua"
    helper.write_file(script, ([[
      local kv = require "kv"
      local ns = assert(kv.open(%q)):namespace("shared")
      for i = 1, %d do
        assert(ns:json_increment("doc", "n"))
        assert(ns:json_push("doc", "list", { arg[1], i }))
        assert(ns:json_increment("doc", { "own", arg[1] }) == i)
      end
      io.write "done"
    ]]):format(path, edits))
    local pipes = {}
    for i = 1, processes do
      pipes[i] = io.popen(("LUA_PATH=%s LUA_CPATH=%s %s %s p%d 2>&1"):format(
        helper.quote(package.path), helper.quote(package.cpath), helper.quote(helper.interpreter),
        helper.quote(script), i))
    end
    for i = 1, processes do
      assert.equal("done", pipes[i]:read "*a")
      pipes[i]:close()
    end
    local doc = ns:get("doc")
    assert.equal(processes * edits, doc.n)
    assert.equal(processes * edits, #doc.list)
    local last = {}
    for _, item in ipairs(doc.list) do
      assert.equal((last[item[1]] or 0) + 1, item[2])
      last[item[1]] = item[2]
    end
    for i = 1, processes do
      assert.equal(edits, last["p" .. i])
      assert.equal(edits, doc.own["p" .. i])
    end
    assert(ns:get("doc", "text"):find(' , "untouched" : 1.0, "list":[[', 1, true))
    assert.is_true(store:check())
    store:close()
  end)
end)
