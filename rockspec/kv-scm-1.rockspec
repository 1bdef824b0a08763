rockspec_format = "3.0"
package = "kv"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "A durable key-value store inside your Lua program",
  detailed = [[
    Namespaces, expiry, metadata, atomic counters, ordered listing and JSON documents, in a directory
    of memory-mapped files. A get is a few hundred nanoseconds, a killed process loses nothing, and
    opening after a crash needs no tool.
  ]],
  license = "MIT",
  labels = { "database", "persistence", "cache" },
}
supported_platforms = { "linux" }
dependencies = {
  "lua >= 5.1, < 5.5",
  "lua-cjson",
  "argparse", -- only the command line needs it
}
test_dependencies = {
  "busted",
}
build = {
  type = "builtin",
  modules = {
    ["kv.core"] = {
      -- Every file of csrc/*.c, in the order of the layers; `make lint` compares.
      sources = {
        "csrc/os.c",
        "csrc/os_dir.c",
        "csrc/os_thread.c",
        "csrc/os_tree.c",
        "csrc/crc32c.c",
        "csrc/region.c",
        "csrc/hash.c",
        "csrc/order_node.c",
        "csrc/order_list.c",
        "csrc/order.c",
        "csrc/order_read.c",
        "csrc/wheel.c",
        "csrc/record.c",
        "csrc/meta.c",
        "csrc/blob.c",
        "csrc/log.c",
        "csrc/log_walk.c",
        "csrc/json.c",
        "csrc/json_text.c",
        "csrc/json_num.c",
        "csrc/json_path.c",
        "csrc/json_edit.c",
        "csrc/open.c",
        "csrc/attach.c",
        "csrc/rebuild.c",
        "csrc/replay.c",
        "csrc/apply.c",
        "csrc/read.c",
        "csrc/list.c",
        "csrc/cursor.c",
        "csrc/write.c",
        "csrc/names.c",
        "csrc/batch.c",
        "csrc/field.c",
        "csrc/stream.c",
        "csrc/clean.c",
        "csrc/check.c",
        "csrc/stores.c",
        "csrc/maint.c",
        "csrc/lua_args.c",
        "csrc/lua_field.c",
        "csrc/lua_json.c",
        "csrc/lua_export.c",
        "csrc/lua_import.c",
        "csrc/lua_kv.c",
        "csrc/lua_jit.c",
        "csrc/lua_list.c",
        "csrc/lua_many.c",
        "csrc/lua_ns.c",
        "csrc/lua_record.c",
        "csrc/lua_store.c",
        "csrc/lua_stream.c",
        "csrc/lua_term.c",
      },
      incdirs = { "csrc" },
      libraries = { "pthread" },
    },
  },
  install = {
    bin = { kv = "bin/kv" },
  },
}
test = {
  type = "command",
  command = "make test",
}
