-- SPDX-License-Identifier: MIT
--
-- cli_spec.lua - the commands: what they do, print, and answer to bad input.

local kv = require "kv"
local helper = require "helper"
local shell = require "shell"

local describe_once, no, ok, peek = shell.describe_once, shell.no, shell.ok, shell.peek
local quote, says, sh, slurp, tty = helper.quote, shell.says, shell.sh, shell.slurp, shell.tty

shell.describe("kv on the command line", function()
  local dir, path -- of files, and of the store

  before_each(function() path, dir = shell.begin() end)

  it("runs on this Lua", function()
    ok "kv init ns what; kv set ns k '{\"a\": [1, 9007199254740993]}' --json --ttl 100"
    assert.equal('{"a": [1, 9007199254740993]}', ok "kv get ns k")
    assert.equal("1\n", ok "kv json ns k 'a[0]'")
    assert.equal("-5\n", ok "kv incr ns n -5")
    ok "kv set ns $'\\xff' -- -v"
    assert.equal("k\nn\n\255\n", ok "kv keys ns")
    assert.equal("-v", ok "kv get ns $'\\xff'")
    no(1, "nokey", "kv get ns nokey")
    no(2, "Usage: kv get", "kv get ns")
    says("NAMESPACE", tty "kv stats".out)
    says("3 keys", ok "kv check")
  end)

  describe_once("init, namespaces and drop", function()
    it("make, list and remove a namespace", function()
      assert.equal("", ok "kv init prefs 'User preferences'")
      ok "kv init other"
      local time = "[%d.]+"
      assert.truthy(ok "kv namespaces":match("^other\t0\t0\t" .. time .. "\t\n" ..
        "prefs\t0\t0\t" .. time .. "\tUser preferences\n$"))
      assert.equal(ok "kv namespaces", ok "kv list")
      ok "kv set prefs a 1; kv set prefs b 2"
      assert.equal("2 keys dropped\n", ok "kv drop prefs")
      assert.is_nil(ok "kv list":find "prefs")
      no(1, "prefs", "kv drop prefs")
    end)

    it("init keeps what is there and takes a new description", function()
      ok "kv init ns one; kv set ns k v; kv init ns; kv init ns two"
      peek(function(store)
        assert.equal("two", store:namespaces()[1].description)
        assert.equal("v", store:namespace("ns"):get "k")
      end)
    end)

    it("namespaces --json is for programs", function()
      ok "kv init ns what"
      local list = assert(kv.decode(ok "kv namespaces --json"))
      assert.equal("ns", list[1].name)
      assert.equal("what", list[1].description)
      assert.equal(0, list[1].keys)
    end)
  end)

  describe_once("set and get", function()
    it("keep text byte for byte, and add nothing in a pipe", function()
      ok "kv set default theme dark"
      assert.equal("dark", ok "kv get default theme")
      ok "kv set default doc '{\"a\": 1}'"
      assert.equal('{"a": 1}', ok "kv get default doc")
      assert.equal("string", type(peek(function(s) return s:namespace "default":get "doc" end)))
      ok "kv set default empty ''"
      assert.equal("", ok "kv get default empty")
      ok "kv set default n 5"
      assert.equal("5", peek(function(s) return s:namespace "default":get "n" end))
    end)

    it("--json stores what the text spells, a document as it is spelled", function()
      ok [[kv set d doc '{"b": 1.50, "a": [ ]}' --json; kv set d n 5 --json; kv set d s '"x"' --json
           kv set --json d t true; kv set d z null --json; kv set d big 9007199254740993 --json]]
      assert.equal('{"b": 1.50, "a": [ ]}', ok "kv get d doc")
      assert.equal("9007199254740993", helper.integers and ok "kv get d big" or "9007199254740993")
      peek(function(store)
        local d = store:namespace "d"
        assert.same({ 5, "x", true, kv.null }, { d:get "n", d:get "s", d:get "t", d:get "z" })
        assert.equal(1.5, d:get "doc".b)
      end)
      no(2, "VALUE", "kv set d x '{\"a\":' --json")
      no(2, "VALUE", "kv set d x dark --json")
    end)

    it("--file takes a file, - standard input", function()
      helper.write_file(dir .. "/f", "\0\1\255\n")
      ok(("kv set d f --file %s/f; printf 'a\\nb' | kv set d g --file -"):format(dir))
      assert.equal("\0\1\255\n", ok "kv get d f")
      assert.equal("a\nb", ok "kv get d g")
      no(3, "nowhere", "kv set d x --file " .. dir .. "/nowhere")
      no(3, dir, "kv set d x --file " .. dir)
      no(2, "VALUE", "kv set d x")
      no(2, "VALUE", "kv set d x y --file f")
    end)

    it("options reach the store", function()
      ok [[kv set d a v --ttl 100 --metadata '{"by":"me"}'; kv set d b v --expiration 4000000000
           kv set d a w --keep-ttl]]
      peek(function(store)
        local d = store:namespace "d"
        assert.truthy(d:ttl "a" > 90)
        assert.is_nil(d:entry "a".metadata)
        assert.equal(4e9, d:entry "b".expiration)
      end)
      no(2, "ttl", "kv set d c v --ttl -5")
      no(2, "--ttl", "kv set d c v --ttl soon")
      no(3, "past", "kv set d c v --expiration 1")
      no(2, "--metadata", "kv set d c v --metadata '[1]'")
      no(2, "--metadata", "kv set d c v --metadata '{'")
    end)

    it("conditions that do not hold are status 1", function()
      ok "kv set d a 1 --if not_exist"
      no(1, "(exists)", "kv set d a 2 --if not_exist")
      no(1, "(not_found)", "kv set d b 2 --if exist")
      local rev = kv.decode(ok "kv get d a --meta").rev
      ok(("kv set d a 2 --if-rev %d"):format(rev))
      no(1, "(conflict)", ("kv set d a 3 --if-rev %d"):format(rev))
      assert.equal("2", ok "kv get d a")
      no(2, "--if", "kv set d a 3 --if maybe")
      no(2, "--if-rev", "kv set d a 3 --if-rev 1.5")
    end)

    it("a miss prints nothing and is status 1", function()
      ok "kv init d"
      no(1, "(not_found)", "kv get d nokey")
      no(1, "nokey", "kv ttl d nokey")
      no(1, "nokey", "kv get d nokey --meta")
    end)

    it("--meta shows everything as JSON", function()
      ok [[kv set d a '{"x":1}' --json --metadata '{"by":"me"}' --ttl 100]]
      local e = assert(kv.decode(ok "kv get d a --meta"))
      assert.same({ x = 1 }, e.value)
      assert.equal("me", e.metadata.by)
      assert.equal("d", e.namespace)
      assert.equal("a", e.key)
      assert.truthy(e.rev >= 1 and e.created_at <= e.updated_at and e.expiration > e.updated_at)
      ok "kv set d raw $'\\xff\\xfe'"
      assert.equal("fffe", kv.decode(ok "kv get d raw --meta").value_hex)
    end)

    it("--as says how", function()
      ok [[kv set d a '[1, 2]'; kv set d b text; kv set d n 5 --json]]
      assert.equal("[1,2]", ok "kv get d a --as json")
      assert.equal("[1, 2]", ok "kv get d a --as text")
      assert.equal("[1, 2]", ok "kv get d a --as binary")
      assert.equal("5", ok "kv get d n --as json")
      no(3, "JSON", "kv get d b --as json")
      no(2, "--as", "kv get d b --as xml")
    end)
  end)

  describe_once("keys and values of any kind", function()
    it("that are negative numbers need no --", function()
      ok "kv set d n -5 --json; kv set d -7 minus"
      assert.equal("minus", ok "kv get d -7")
      assert.equal("-10\n", ok "kv incr d n -5")
      assert.equal("-10.5\n", ok "kv incr d n -0.5")
      ok "kv set d t '- a list'"
      assert.equal("- a list", ok "kv get d t")
    end)

    it("that begin with - go behind --", function()
      ok "kv set d --ttl 100 -- -k -v"
      assert.equal("-v", ok "kv get d -- -k")
      assert.equal("-k\n", ok "kv keys d --prefix=-")
      ok "kv delete-key d -- -k"
      no(2, "' -- '", "kv get d -k")
      no(2, "' -- '", "kv get d --key")
    end)

    it("that are not UTF-8", function()
      ok "kv set $'n\\xff' $'k\\xfe' $'v\\xfd\\x80'"
      assert.equal("v\253\128", ok "kv get $'n\\xff' $'k\\xfe'")
      assert.equal("k\254\n", ok "kv keys $'n\\xff'")
      assert.equal("\\xff", kv.decode(ok "kv list --json")[1].name:lower():match "\\x%x%x")
      peek(function(store)
        assert.equal("v\253\128", store:namespace("n\255", { create = false }):get "k\254")
      end)
      no(1, "k\253", "kv get $'n\\xff' $'k\\xfd'")
    end)

    it("that are too long, or empty", function()
      ok "kv init d"
      no(3, "key", "kv set d $(printf 'x%.0s' {1..513}) v")
      no(2, "key", "kv set d '' v")
      no(2, "name", "kv set '' k v")
      no(2, "--store", "kv list --store ''")
    end)
  end)

  describe_once("delete-key, ttl and incr", function()
    it("do what they say", function()
      ok "kv set d a 1; kv set d b 1 --ttl 100"
      assert.equal("never\n", ok "kv ttl d a")
      local left = tonumber((ok "kv ttl d b"))
      assert.truthy(left > 90 and left <= 100)
      assert.equal("", ok "kv delete-key d a")
      no(1, "a", "kv delete-key d a")
      no(1, "b", "kv delete-key d b --if-rev 999")
      assert.equal("1\n", ok "kv incr d n")
      assert.equal("6\n", ok "kv incr d n 5")
      assert.equal("4.5\n", ok "kv incr d n -1.5")
      no(3, "number", "kv set d t text; kv incr d t")
      no(2, "BY", "kv incr d n five")
      no(2, "BY", "kv incr d n 0x10")
    end)
  end)

  describe_once("json", function()
    it("reads and changes one field, and leaves the rest as it is spelled", function()
      ok [[kv set d k '{"b": 1.50, "a": {"x": [1, 2]}}' --json]]
      assert.equal("[1,2]\n", ok "kv json d k a.x")
      assert.equal("1\n", ok "kv json d k 'a.x[0]'")
      assert.equal("2\n", ok "kv json d k /a/x/1")
      assert.equal("", ok "kv json d k a.y true")
      assert.equal('{"b": 1.50, "a": {"x": [1, 2],"y":true}}', ok "kv get d k")
      assert.equal("6\n", ok "kv json d k n --incr 6")
      assert.equal("1\n", ok "kv json d k n --incr -5")
      assert.equal("3\n", ok "kv json d k a.x --push '{\"z\":null}'")
      assert.equal("1\n", ok "kv json d k tags --push admin --text")
      assert.equal('"admin"\n', ok "kv json d k 'tags[-1]'")
      assert.equal("", ok "kv json d k 'a.x[0]' --remove; kv json d k b --remove")
      assert.equal('{"a": {"x": [2,{"z":null}],"y":true},"n":1,"tags":["admin"]}', ok "kv get d k")
      assert.equal("7\n", ok "kv json d new a.b 7; kv json d new a.b")
      -- as it is spelled: members in their order, numbers with all their digits
      local spelled = '{"z":1,"b":12345678901234567890,"a":1.50,"y":[ 1e2 ],"c":"\\u0041 \\" "}'
      ok("kv json d new x ' " .. spelled .. "\t'; kv json d new l --push '" .. spelled .. "'")
      local line = spelled:gsub("%[ 1e2 %]", "[1e2]")
      assert.equal(line .. "\n", ok "kv json d new x")
      assert.equal(line .. "\n", ok "kv json d new 'l[0]'")
      assert.equal(('{"a":{"b":7},"x":%s,"l":[%s]}'):format(spelled, spelled), ok "kv get d new")
      assert.equal("12345678901234567890\n", ok "kv json d new /l/0/b")
    end)

    it("takes JSON and never guesses", function()
      ok "kv init d"
      no(2, "--text", "kv json d k name Ada")
      no(2, "--push", "kv json d k name --push Ada")
      no(1, "'k'", "kv json d k name")
      ok "kv json d k name Ada --text; kv json d k n 5 --text; kv json d k m -5"
      assert.equal('{"name":"Ada","n":"5","m":-5}', ok "kv get d k")
    end)

    it("says what is wrong", function()
      ok [[kv set d k '{"a":{"s":"x"}}' --json; kv set d t text]]
      no(1, "'nokey'", "kv json d nokey a")
      no(1, "'a.b'", "kv json d k a.b")
      no(1, "'a.b'", "kv json d k a.b --remove")
      no(2, "path", "kv json d k a..b")
      no(2, "path", "kv json d k a..b 5")
      no(3, "k", "kv json d k a.s.t 5")
      no(3, "k", "kv json d k a.s --incr 1")
      no(3, "t", "kv json d t a 5")
      no(2, "one of", "kv json d k a 5 --remove")
      no(2, "one of", "kv json d k a --incr 1 --push 5")
      no(2, "--incr", "kv json d k a --incr x")
      no(1, "'e'", "kv json e k a 5")
    end)
  end)

  describe_once("keys", function()
    before_each(function()
      local store = assert(kv.open(path))
      local items = {}
      for i = 1, 2500 do items[i] = { key = ("k%04d"):format(i), value = i } end
      assert(store:namespace "d":put_many(items))
      store:namespace "d":put("x", 1, { metadata = { m = 1 } })
      store:close()
    end)

    it("prints them all, in order", function()
      local out = ok "kv keys d"
      local _, n = out:gsub("\n", "")
      assert.equal(2501, n)
      assert.equal("k0001\nk0002\n", out:sub(1, 12))
      assert.equal("x\nk2500\n", (ok "kv keys d --reverse"):sub(1, 8))
      assert.equal("x\n", ok "kv keys d --prefix x")
      assert.equal("", ok "kv keys d --prefix y")
      assert.equal("x\tnever\t{\"m\":1}\n", ok "kv keys d --prefix x --long")
      assert.equal("x\0", ok "kv keys d --prefix x -z")
    end)

    it("--limit and --cursor are pages", function()
      local first = sh "kv keys d --limit 1200"
      assert.equal(0, first.status)
      local cursor = first.err:match "%-%-cursor (%S+)\n"
      local second = sh("kv keys d --limit 2000 --cursor " .. cursor)
      assert.equal("", second.err)
      assert.equal(ok "kv keys d", first.out .. second.out)
      no(2, "cursor", "kv keys d --cursor nonsense")
      no(2, "cursor", "kv keys d --reverse --cursor " .. cursor)
      no(2, "--limit", "kv keys d --limit 0")
    end)

    it("end quietly when nobody reads on", function()
      -- The reader is gone before a byte is written: what a pipe holds would hide it.
      local unread = "f=$(mktemp -u); mkfifo $f; (exec 4<$f) & exec 5>$f; wait; rm $f; "
        .. "%skv keys d >&5; echo $?"
      for _, trap in ipairs { "", "trap '' PIPE; " } do
        local r = sh(unread:format(trap))
        assert.equal("", r.err)
        assert.equal("141\n", r.out)
      end
      assert.equal("k0001\n", ok "kv keys d | head -n 1")
    end)

    it("say so when the output cannot be written", function()
      no(3, "standard output", "kv keys d >/dev/full")
      no(3, "standard output", "kv keys d >&-")
      says("2,501 keys", ok "kv check")
    end)
  end)

  describe_once("delete-bulk", function()
    it("takes an array, as an argument or from standard input", function()
      ok "kv set d a 1; kv set d b 1; kv set d c 1"
      assert.equal("2 keys deleted\n", ok [[kv delete-bulk d '["a","b","nokey"]']])
      assert.equal("1 key deleted\n", ok [[echo '[{"name":"c"}]' | kv delete-bulk d -]])
      no(2, "JSON", "kv delete-bulk d '[\"a\"'")
      no(2, "array", "kv delete-bulk d '{\"a\":1}'")
      no(2, "array", "kv delete-bulk d 5")
      no(2, "item 2", "kv delete-bulk d '[\"a\",5]'")
      no(3, "standard input", "echo '[' | kv delete-bulk d -")
      assert.equal("0 keys deleted\n", ok "kv delete-bulk d '[]'")
    end)
  end)

  describe_once("export and import", function()
    it("give back what was there: types, bytes, metadata, expiration", function()
      ok [[kv set d a text --metadata '{"m":1}'; kv set d b 9007199254740993 --json
           kv set d c '{"x": 1.50}' --json; kv set d $'\xff' $'\xfe\x00' --ttl 1000
           kv set d nul null --json]]
      local lines = ok "kv export d -"
      assert.equal("5 records exported\n", ok(("kv export d %s/x"):format(dir)))
      assert.equal(lines, slurp(dir .. "/x"))
      assert.equal("5 records imported\n", ok(("kv init e; kv import e %s/x"):format(dir)))
      assert.equal("5 records imported\n", ok(("kv init f; kv import f - <%s/x"):format(dir)))
      for _, name in ipairs { "e", "f" } do
        assert.equal(lines, ok("kv export " .. name .. " -"))
      end
      assert.equal('{"x": 1.50}', ok "kv get e c")
      assert.equal("a\tnever\t{\"m\":1}\n", ok "kv keys e -l --prefix a")
    end)

    it("know a flat object by its name, or when they are told", function()
      ok [[kv set d a text; kv set d b '[1, 2]' --json]]
      ok(("kv export d %s/x.json"):format(dir))
      assert.same({ a = "text", b = { 1, 2 } }, kv.decode(slurp(dir .. "/x.json")))
      assert.equal(slurp(dir .. "/x.json"), ok "kv export d - --format json")
      assert.equal("1 record exported\n", ok(("kv export d %s/y --prefix a"):format(dir)))
      ok(("kv init e; kv import e %s/x.json; kv init f; kv import f %s/x.json --text"):format(
        dir, dir))
      peek(function(store)
        assert.same({ 1, 2 }, store:namespace "e":get "b")
        assert.equal("[1, 2]", store:namespace "f":get "b")
      end)
    end)

    it("set-bulk takes a list, an object, or standard input", function()
      ok "kv init d"
      assert.equal("2 records imported\n", ok [[kv set-bulk d '[{"key":"user:1","value":"Alice"},
        {"key":"w","value":"AAH/","base64":true,"expiration_ttl":60,"metadata":{"m":1}}]'
      ]])
      assert.equal("\0\1\255", ok "kv get d w")
      assert.truthy(tonumber((ok "kv ttl d w")) <= 60)
      ok [[kv set-bulk d '{"user:1":{"name":"Alice"},"user:2":5}']]
      assert.equal('{"name":"Alice"}', ok "kv get d user:1")
      assert.equal("1 record imported\n", ok [[echo '{"k":[]}' | kv set-bulk d -]])
      no(3, "argument JSON", "kv set-bulk d '{\"a\":'")
      no(3, "argument JSON", "kv set-bulk d text")
      no(3, "standard input: line", "echo '{' | kv set-bulk d -")
      no(1, "'e'", "kv set-bulk e '{}'")
    end)

    it("say which line is wrong, and what was stored", function()
      ok "kv init d"
      local good, file = '{"key":"a","value":1}\n', dir .. "/in"
      local function import(text, words, more)
        helper.write_file(file, text)
        no(3, words, ("kv import d %s %s"):format(file, more or ""))
        says(file, sh(("kv import d %s"):format(file)).err)
        peek(function() end)
      end
      import(good .. '{"key":"b","val', "line 2")
      says("1 written", sh("kv import d " .. file).err)
      import("not JSON", "line 1")
      import(good .. "\0\0\0\0\n", "line 2")
      import(good .. '{"key":5,"value":1}\n', "line 2")
      import(good .. '{"key":"' .. ("x"):rep(513) .. '","value":1}\n', "line 2")
      import('{"a":1,"b":', "line 1", "--format json")
      import('[{"key":"a","value":1},{"value":2}]', "record 2")
      no(3, dir .. "/nowhere", ("kv import d %s/nowhere"):format(dir))
      no(3, dir, "kv import d " .. dir)
      no(1, "'e'", "kv import e " .. file)
      no(2, "--format", "kv import d --format xml " .. file)
    end)

    it("the last of the same keys counts", function()
      ok [[kv init d; printf '{"key":"a","value":1}\n{"key":"a","value":2}\n' | kv import d -]]
      assert.equal("2", ok "kv get d a")
    end)

    it("--continue-on-error stores the rest", function()
      ok "kv init d"
      helper.write_file(dir .. "/in",
        '{"key":"a","value":1}\n{"key":5}\n{"key":"b","value":2}\n[')
      local r = sh(("kv import d %s/in --continue-on-error"):format(dir))
      assert.equal("2 records imported\n", r.out)
      says("line 2", r.err)
      says("line 4", r.err)
      says("2 records left out", r.err)
      assert.equal(3, r.status)
      assert.equal("a\nb\n", ok "kv keys d")
    end)

    it("a value or a store that is too big ends it, and the store is whole", function()
      local store = assert(kv.open(path, { max_value = 1000, max_size = 200000 }))
      store:namespace "d"
      store:close()
      helper.write_file(dir .. "/in",
        ('{"key":"a","value":1}\n{"key":"b","value":"%s"}\n'):format(("x"):rep(1001)))
      no(3, "line 2", ("kv import d %s/in"):format(dir))
      local lines = {}
      for i = 1, 1000 do
        lines[i] = ('{"key":"k%04d","value":"%s"}\n'):format(i, ("x"):rep(900))
      end
      helper.write_file(dir .. "/in", table.concat(lines))
      no(3, "written", ("kv import d %s/in"):format(dir))
      peek(function(s) assert(s:namespace "d":count() > 50) end)
    end)

    it("a file that cannot be written leaves the old one", function()
      ok [[kv init d; kv set d a $'\xff']]
      helper.write_file(dir .. "/x.json", "old")
      no(3, "UTF-8", ("kv export d %s/x.json"):format(dir))
      assert.equal("old", slurp(dir .. "/x.json"))
      no(3, "/dev/full", "kv export d /dev/full")
      no(3, "standard output", "kv export d - >/dev/full")
      no(3, dir, "kv export d " .. dir)
      no(3, "nowhere", ("kv export d %s/nowhere/x"):format(dir))
      local left = io.popen("ls " .. dir)
      assert.is_nil(left:read "*a":find "x%.json%.")
      left:close()
    end)

    it("an export that nobody reads ends quietly", function()
      local store = assert(kv.open(path))
      for i = 1, 5000 do store:namespace "d":put(("k%04d"):format(i), ("x"):rep(100)) end
      store:close()
      local r = sh "kv export d - | head -c 1; echo ${PIPESTATUS[0]}"
      assert.equal("{141\n", r.out)
      assert.equal("", r.err)
    end)
  end)

  describe_once("stats, check and backup", function()
    it("show what there is", function()
      ok "kv set d a 1; kv set e b 2"
      says("2 in 2 namespaces", ok "kv stats")
      local s = assert(kv.decode(ok "kv stats --json"))
      assert.equal(2, s.keys)
      assert.equal(path, s.path)
      assert.equal("e", s.namespace_list[2].name)
      says("2 keys", ok "kv check")
      says("2 records", ok("kv backup " .. dir .. "/copy"))
      assert.equal("1", ok("kv get d a --store " .. dir .. "/copy"))
      no(3, dir .. "/copy", "kv backup " .. dir .. "/copy")
    end)

    it("check finds damage, and says where", function()
      ok "kv set d a AAAAAAAAAAAAAAAA; kv set d b 2"
      os.execute(("sed -i s/AAAAAAAA/AAABAAAA/ %s/log.*"):format(quote(path)))
      local r = sh "kv check"
      assert.equal(3, r.status)
      assert.equal("", r.out)
      says(path, r.err)
    end)
  end)

  describe_once("the store", function()
    it("is what --store says, before or after the command, else $KV_STORE", function()
      ok(("kv --store %s/x set d k 1; kv set d k 2 --store=%s/y; kv set d k 3"):format(dir, dir))
      assert.equal("1", ok(("kv get d k --store %s/x"):format(dir)))
      assert.equal("2", ok(("kv --store %s/y get d k"):format(dir)))
      assert.equal("3", ok "kv get d k")
    end)

    it("is the default store of a program otherwise", function()
      local env = { KV_STORE = "", XDG_DATA_HOME = dir .. "/data", HOME = dir }
      ok("kv set default theme dark", env)
      env.XDG_DATA_HOME = ""
      ok("kv set default theme light", env)
      local function get(data)
        return helper.run('io.write(require "kv".get "theme")',
          { KV_STORE = false, XDG_DATA_HOME = data, HOME = dir })
      end
      assert.equal("dark", get(dir .. "/data"))
      assert.equal("light", get(false))
      no(2, "--store", "env -u HOME -u KV_STORE -u XDG_DATA_HOME " .. quote(helper.interpreter) ..
        " bin/kv list")
      no(2, "memory", "kv list --store :memory:")
    end)

    it("is made only by set and init", function()
      for _, command in ipairs { "get d k", "keys d", "incr d k", "ttl d k", "delete-key d k",
        "drop d", "delete-bulk d '[]'", "list", "stats", "check", "backup " .. dir .. "/b" } do
        no(1, path, "kv " .. command)
      end
      assert.is_nil(kv.open(path, { create = false }))
    end)

    it("a namespace is made only by set and init", function()
      ok "kv init d"
      for _, command in ipairs { "get e k", "keys e", "incr e k", "ttl e k", "delete-key e k",
        "drop e", "delete-bulk e '[]'", "import e -", "set-bulk e '{}'", "export e -" } do
        no(1, "'e'", "kv " .. command)
        no(1, "(not_found)", "kv " .. command)
      end
      assert.equal(1, #peek(function(store) return store:namespaces() end))
    end)

    it("that may only be read is read", function()
      local as = ""
      if sh "test $(id -u) = 0".status == 0 then -- whom no permission stops
        as = "setpriv --reuid=65534 --regid=65534 --clear-groups "
      end
      if sh(as .. "test -r bin/kv -a -r lua/kv/init.lua").status ~= 0 then
        pending "nobody else can read the clone"
        return
      end
      os.execute(("mkdir %s/other && chmod 777 %s/other && chmod 755 %s"):format(dir, dir, dir))
      local env = { KV_STORE = dir .. "/other/s" }
      local r = sh(as .. ([[bash -c '
        kv() { "$LUA" bin/kv "$@"; }
        kv set d k v && chmod -R a-w "$KV_STORE" && kv get d k && kv keys d && kv set d k w
      ']]), env)
      assert.equal("vk\n", r.out)
      says("(denied)", r.err)
      assert.equal(3, r.status)
    end)

    it("is refused when the path is something else", function()
      helper.write_file(dir .. "/file", "text")
      no(3, "file", "kv list --store " .. dir .. "/file")
      os.execute("mkdir " .. dir .. "/full && touch " .. dir .. "/full/other")
      no(3, "full", "kv set d k v --store " .. dir .. "/full")
      no(3, "file", "kv set d k v --store " .. dir .. "/file/below")
    end)
  end)

  describe_once("a store that others use", function()
    it("is seen and changed as it is", function()
      local store = assert(kv.open(path))
      local d = store:namespace "d"
      d:put("k", "here")
      assert.equal("here", ok "kv get d k")
      ok "kv set d k there; kv init e"
      assert.equal("there", d:get "k")
      for i = 1, 1000 do d:put(("n%04d"):format(i), i) end
      assert.equal("1001 records imported\n", (ok "kv export d - | kv import e -":gsub(",", "")))
      assert.equal(1001, store:namespace "e":count())
      says("2,002 keys", ok "kv check")
      says("2,002 records", ok("kv backup " .. dir .. "/copy"))
      assert.equal("1,001 keys dropped\n", ok "kv drop e")
      assert.equal(1, #store:namespaces())
      assert(store:check())
      store:close()
      assert.equal("there", ok("kv get d k --store " .. dir .. "/copy"))
    end)

    it("counts every step of every process", function()
      ok "kv init d"
      ok [[for i in 1 2 3 4; do
             (for j in $(seq 25); do kv incr d n >/dev/null || exit 1; done) & done; wait]]
      assert.equal("101\n", ok "kv incr d n")
    end)

    it("survives a command that is killed", function()
      ok(("kv init d; mkfifo %s/fifo"):format(dir))
      local lines = {}
      for i = 1, 20000 do lines[i] = ('{"key":"%d","value":1}\n'):format(i) end
      helper.write_file(dir .. "/in", table.concat(lines))
      local store = assert(kv.open(path))
      sh(([[
        setsid sh -c 'cat %s/in; exec sleep 3' >%s/fifo & "$LUA" bin/kv import d %s/fifo &
        sleep 1; kill -9 $!; wait $!]]):format(dir, dir, dir))
      local n = store:namespace "d":count()
      assert(store:check())
      store:close()
      assert.equal(tostring(n), (ok "kv keys d | wc -l":gsub("%s", "")))
      ok("kv import d " .. dir .. "/in")
      says("20,000 keys", ok "kv check")
    end)
  end)

  describe_once("usage", function()
    it("mistakes are status 2 and show how it is done", function()
      no(2, "Usage: kv", "kv")
      no(2, "unknown command 'nonsense'", "kv nonsense")
      no(2, "Did you mean 'stats'", "kv stat")
      no(2, "missing argument 'KEY'", "kv get d")
      no(2, "too many arguments", "kv get d k more")
      no(2, "unknown option '--colour'", "kv get d k --colour")
      no(2, "Usage: kv set", "kv set d k v --ttl")
    end)

    it("--help and --version", function()
      assert.equal("kv " .. kv._VERSION .. "\n", ok "kv --version")
      says("Usage: kv", ok "kv --help")
      says("Usage: kv", ok "kv -h")
      local names = {}
      for name in ok "kv complete --":gmatch "([^\t\n]+)\t" do names[#names + 1] = name end
      assert.truthy(#names > 12)
      for _, name in ipairs(names) do
        local text = ok("kv " .. name .. " --help")
        says("Usage: kv " .. name, text)
        assert(text:find "\nExamples:\n", name .. " has no examples")
        assert.truthy(#text > 200)
      end
    end)
  end)
end)
