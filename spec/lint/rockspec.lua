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

-- The release differs in its version and tag alone, and the version is that of kv.h.
local function read(name)
  local file = assert(io.open(name))
  local text = file:read "*a"
  file:close()
  return text
end
local version = read("csrc/kv.h"):match '#define KV_VERSION "(.-)"'
local release = ("rockspec/kv-%s-1.rockspec"):format(version)
local expected = read(path):gsub('"scm%-1"', ('"%s-1"'):format(version))
  :gsub("( *)url = [^\n]*", ('%%0\n%%1tag = "v%s",'):format(version))
local ok, text = pcall(read, release)
if not ok or text ~= expected then
  complain("%s is not %s with a version and a tag: make rockspec", release, path)
end
os.exit(not bad)
