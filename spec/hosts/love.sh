#!/bin/sh
# The LÖVE game, without a display: played by a bot and killed in mid-save, again and again; each time
# it goes on where it was. DEATHS says how often.
. "$(dirname "$0")/lib.sh"

export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;;" LUA_CPATH="$root/build/luajit/?.so;;"
export XDG_DATA_HOME="$work/data" KV_HEADLESS=play
deaths=${DEATHS:-100}
touch "$work/before"

# What the game says at its start, held against the last words of the one that was killed: the save
# it reported is there, or a later one. A new game begins only when the last one was over.
cat >"$work/held.lua" <<'LUA'
local function lines(name)
  local all = {}
  for line in io.lines(name) do all[#all + 1] = line end
  return all
end
local before, now = lines(arg[1]), lines(arg[2])
local level, score, over
for _, line in ipairs(before) do
  local l, _, s = line:match "^saved (%d+) (%d+) (%d+)$"
  if l then level, score, over = tonumber(l), tonumber(s), false end
  if line:match "^over" then over = true end
end
local l, s = (now[1] or ""):match "^continued: level (%d+), (%d+) points$"
l, s = tonumber(l), tonumber(s)
if l then
  assert(level and (l > level or l == level and s >= score or over), "the save went back")
  -- One frame was in flight at the most, and catches one star a frame.
  assert(over or s <= score + 100, "the save is of another game")
else
  assert(now[1] == "a new game", "it says: " .. tostring(now[1]))
  assert(not level or over, "the save is gone")
end
LUA

n=0
while [ "$n" -lt "$deaths" ]; do
    touch "$work/now"
    love examples/love >"$work/now" 2>&1 &
    pid=$!
    # Somewhere in the first saves, or later; the game saves thousands of times a second.
    tries=0
    until grep -q '^saved' "$work/now" || [ $tries -gt 1000 ]; do
        sleep 0.01
        tries=$((tries + 1))
    done
    sleep "0.0$(( (n * 37) % 97 ))"
    kill -9 $pid
    wait $pid 2>/dev/null || :
    check "start $n" lua5.4 "$work/held.lua" "$work/before" "$work/now"
    check "start $n plays" grep -q '^saved' "$work/now"
    mv "$work/now" "$work/before"
    n=$((n + 1))
done

KV_HEADLESS=frames check 'frames' sh -c 'love examples/love >"$0" 2>&1' "$work/now"
check 'their cost' grep '^100 operations in a frame' "$work/now"
check 'the store is whole' lua5.4 -e '
  package.path, package.cpath = os.getenv "LUA_PATH", "'"$root"'/build/lua5.4/?.so"
  local store = assert(require "kv".open "'"$XDG_DATA_HOME"'/love/star-catcher/save.kv")
  assert(store:check())
  assert(store:namespace "progress":get "achievements".caught > 0)'
finish
