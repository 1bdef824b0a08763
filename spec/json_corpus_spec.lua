-- SPDX-License-Identifier: MIT
--
-- json_corpus_spec.lua - every text of spec/json/corpus.txt, valid, invalid and borderline: what
-- decode, a put as JSON and an edit of a string say of it.

local kv = require "kv"
local helper = require "helper"

local fails = helper.fails

-- verdict, text: the format is described in the file.
local function texts()
  local list = {}
  for line in io.lines("spec/json/corpus.txt") do
    local verdict, text = line:match("^(%l+) ?(.*)$")
    if verdict then
      list[#list + 1] = { verdict, (text:gsub("\\(.)(%x?%x?)", function(letter, hex)
        if letter == "x" then return string.char(tonumber(hex, 16)) end
        return (letter == "!" and "" or letter) .. hex
      end)) }
    end
  end
  return list
end

describe("the corpus of JSON texts", function()
  helper.each_store(function(new)
    it("is judged alike by decode, put and edits", function()
      local ns = new():namespace("texts")
      local list = texts()
      assert(#list >= 300)
      for _, case in ipairs(list) do
        local verdict, text = case[1], case[2]
        ns:delete("doc")
        ns:put("string", text)
        if verdict == "ok" then
          local value, message = kv.decode(text)
          assert(value ~= nil, message)
          assert(ns:put("doc", text, { as = "json" }))
          assert.equal(text, ns:get("doc", "text"))
          assert.same(value, ns:get("doc"))
          assert.same(value, ns:json_get("doc"))
          assert.same(value, ns:json_get("string"))
          assert.equal(ns:json_type("doc"), ns:json_type("string"))
          -- What it encodes to means the same.
          assert.same(value, kv.decode(kv.encode(value)))
        else
          local code = verdict == "depth" and "too_deep" or "not_json"
          fails(code, kv.decode(text))
          fails(code, ns:put("doc", text, { as = "json" }))
          fails(code, ns:json_get("string"))
          fails(code, ns:json_set("string", "a", 1))
          assert.is_false(ns:exists("doc"))
          assert.equal(text, ns:get("string"))
        end
      end
    end)
  end)
end)
