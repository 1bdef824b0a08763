-- What the C program runs: the same store, from Lua.
local kv = require "kv"

local store <close> = assert(kv.open(STORE))
local settings = store:namespace "settings"
print(("Lua: volume is %d"):format(settings:get "volume"))
settings:put("greeting", ("hello from %s, start %d"):format(_VERSION, settings:get "starts"))
