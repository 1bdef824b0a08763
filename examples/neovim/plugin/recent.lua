-- Recently used files, shared by every Neovim that runs and kept for the next one: `:Recent`
-- chooses one of them, and the cursor is where it was.
--
-- One key a file: its path. The value is a document, {at, line, opens}; files not seen for 90 days
-- expire.

local kv = require "kv"

local KEEP = 90 * 24 * 3600
local SHOWN = 30

local files
local function space()
  if not files then
    local path = vim.env.KV_STORE or vim.fn.stdpath "data" .. "/recent.kv"
    files = assert(kv.open(path)):namespace("recent", { description = "Files used in Neovim" })
  end
  return files
end

-- Nothing is said where a problem of this list would disturb the work.
local function note(event)
  local path = vim.api.nvim_buf_get_name(0)
  if path == "" or vim.bo.buftype ~= "" then return end
  local ns, line = space(), vim.api.nvim_win_get_cursor(0)[1]
  if event == "BufReadPost" then
    -- Several Neovims may open the same file at once: each is counted.
    ns:json_increment(path, "opens", 1, { ttl = KEEP })
    local last = ns:json_get(path, "line")
    if last and last <= vim.api.nvim_buf_line_count(0) then
      vim.api.nvim_win_set_cursor(0, { last, 0 })
    end
  else
    ns:json_set(path, "line", line)
  end
  ns:json_set(path, "at", os.time())
end

local function recent()
  local all = {}
  for path, file in space():pairs() do
    all[#all + 1] = { path = path, at = file.at or 0, opens = file.opens or 0 }
  end
  table.sort(all, function(a, b)
    if a.at ~= b.at then return a.at > b.at end
    return a.path < b.path
  end)
  for i = #all, SHOWN + 1, -1 do all[i] = nil end
  return all
end

local group = vim.api.nvim_create_augroup("recent", {})
vim.api.nvim_create_autocmd({ "BufReadPost", "BufWritePost", "BufLeave", "VimLeavePre" }, {
  group = group,
  callback = function(args) note(args.event) end,
})

vim.api.nvim_create_user_command("Recent", function()
  vim.ui.select(recent(), {
    prompt = "Recently used",
    format_item = function(file) return vim.fn.fnamemodify(file.path, ":~:.") end,
  }, function(file)
    if file then vim.cmd.edit(vim.fn.fnameescape(file.path)) end
  end)
end, {})

return { recent = recent }
