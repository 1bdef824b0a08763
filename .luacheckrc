std = "min"
max_line_length = 100
codes = true
exclude_files = { "build", "lua_modules" }

files["lua/kv"] = { read_globals = { "loadstring" } }
files["lua/kv/ffi.lua"].std = "luajit"
files["spec"].std = "max+busted"
files["spec/**/*_spec.lua"].std = "max+busted"
files["spec/hosts/states.lua"] = { globals = { "STORE", "ME", "N", "LEAVES" } }
files["bench"].std = "lua54"
files["bench/openresty"].std = "ngx_lua"
files["bench/openresty/neighbour.lua"].std = "lua54"
files["bench/openresty/report.lua"] = { globals = { "done" } }
files["rockspec"].std = "+rockspec"
files["rockspec/*.rockspec"].std = "+rockspec"
files["examples/embed/script.lua"] = { globals = { "STORE" } }
files["examples/love"].std = "luajit+love"
files["examples/haproxy"] = { std = "lua53", globals = { "core" } }
files["examples/neovim"] = { std = "luajit", globals = { "vim" } }
files["examples/openresty"].std = "ngx_lua"
files["examples/flow/sandbox.lua"] = { std = "max" }
files["examples/flow/flow.lua"] = { std = "max" }
files["examples/flow/nodes"] = { globals = { "kv", "inputs", "services" } }
