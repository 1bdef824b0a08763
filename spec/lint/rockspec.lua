-- The rockspec lists the C files one by one, and says what it is called: compare with the tree.

local bad = false
local function complain(...)
  print(string.format(...))
  bad = true
end

local path = "rockspec/kv-scm-1.rockspec"
local rock = {}
assert(loadfile(path, "t", rock))()
if path ~= ("rockspec/%s-%s.rockspec"):format(rock.package, rock.version) then
  complain("%s is of %s %s", path, rock.package, rock.version)
end

local listed = {}
for _, file in ipairs(rock.build.modules["kv.core"].sources) do
  listed[file] = true
end
local pipe = io.popen "ls csrc/*.c"
for file in pipe:lines() do
  if not listed[file] then
    complain("%s does not list %s", path, file)
  end
  listed[file] = nil
end
pipe:close()
for file in pairs(listed) do
  complain("%s lists %s, which is not there", path, file)
end
os.exit(not bad)
