-- How fast are records read from a file and written to one, and how much memory does that take?

return function(bench)
  local clock, n = bench.clock, bench.keys

  -- About 300 bytes a record: a user, as export would write it.
  local function make(order)
    local path = bench.path("import-" .. order .. ".ndjson")
    local file = assert(io.open(path, "wb"))
    local keys, lines = {}, {}
    for first = 0, n - 1, 1000 do
      local count = math.min(1000, n - first)
      clock.keys(keys, count, n, order, first)
      for i = 1, count do
        local id = first + i
        lines[i] = ('{"key":"%s","type":"json","value":{"id":%d,"name":"User number %d","email":'
          .. '"user%d@example.org","tags":["alpha","beta","gamma"],"score":%.3f,"active":%s,'
          .. '"address":{"street":"%d Long Road","city":"Somewhere","zip":"%05d"}},"metadata":'
          .. '{"source":"bench","note":"xxxxxxxxxx"}}\n'):format(keys[i], id, id, id, id / 7,
          id % 2 == 0, id % 999, id % 99999)
      end
      file:write(table.concat(lines, "", 1, count))
    end
    local bytes = file:seek "end"
    file:close()
    return path, bytes
  end

  local function memory()
    for line in io.lines "/proc/self/status" do
      local kib = line:match "^RssAnon:%s*(%d+)"
      if kib then return kib / 1024 end
    end
  end

  local sorted, bytes = make "sorted"
  local shuffled = make "shuffled"
  bench.title(("import and export of %d records, %d bytes each, sync = \"interval\"")
    :format(n, bytes // n))
  local grown, kept = 0, nil
  local function import(path)
    return function()
      if kept then kept:close() end
      local store, ns = bench.store()
      kept = store
      local before = memory()
      local began = clock.now()
      assert(ns:import(path) == n)
      local took = clock.now() - began
      grown = math.max(grown, memory() - before)
      return took / n
    end
  end
  local r = bench.contest("import", {
    { "keys in order", import(sorted) },
    { "keys shuffled", import(shuffled) },
    { "export to a file", function()
      local ns = kept:namespace "default"
      local began = clock.now()
      assert(ns:export(bench.path "export.ndjson") == n)
      return (clock.now() - began) / n
    end },
  })
  bench.row("memory beside the mapped store", grown, "MiB")
  bench.at_least("import, keys in order", 1e6 / r["keys in order"], 300, "k/s")
  bench.at_least("import, keys shuffled", 1e6 / r["keys shuffled"], 300, "k/s")
  bench.at_most("import, memory beside the mapped store", grown, 16, "MiB")
  kept:close()
end
