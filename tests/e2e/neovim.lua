-- Drives Neovim's own client: hover, the raw inline request, and the accepted text put into the buffer.
--   nvim --clean --headless -u NONE -l neovim.lua CONFIG FILE LINE COLUMN
-- CONFIG is sourced as a user's init.lua would be. LINE and COLUMN are 0-based bytes. Prints one JSON object.
local config, file, line, column = _G.arg[1], _G.arg[2], tonumber(_G.arg[3]), tonumber(_G.arg[4])

local function fail(message)
  io.stderr:write(message .. '\n')
  vim.cmd('cquit 1')
end

local function wait_for(what, ready)
  local value
  if not vim.wait(90000, function()
    value = ready()
    return value
  end, 20) then
    fail('timed out: ' .. what)
  end
  return value
end

dofile(config)
vim.cmd.edit(file)
vim.bo.filetype = 'python'
vim.o.virtualedit = 'onemore' -- the cursor may stand behind the last character, as in Insert mode
local buffer = vim.api.nvim_get_current_buf()
local client = wait_for('the client attached', function()
  local found = vim.lsp.get_clients({ name = 'loracle', bufnr = buffer })[1]
  return found and found.initialized and found
end)

local function ask(method, params)
  local reply, problem = client:request_sync(method, params, 30000, buffer)
  if not reply then
    fail(method .. ': ' .. tostring(problem))
  end
  if reply.err then
    fail(method .. ': ' .. vim.inspect(reply.err))
  end
  return reply.result
end

local function command(name, argument)
  return ask('workspace/executeCommand', { command = name, arguments = { argument } })
end

wait_for('the model', function()
  local status = command('loracle.status')
  if status.modelProblem then
    fail(status.modelProblem)
  end
  return status.model
end)

-- The rest of the line is deleted, as if it were still to be typed; Neovim tells the server of the edit itself.
local text = vim.api.nvim_buf_get_lines(buffer, line, line + 1, true)[1]
vim.api.nvim_buf_set_text(buffer, line, column, line, #text, {})
vim.api.nvim_win_set_cursor(0, { line + 1, column })
local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
params.context = { triggerKind = 1 }
local items = wait_for('an inline completion', function()
  local answer = ask('textDocument/inlineCompletion', params)
  return answer and #answer.items > 0 and answer.items
end)
local item = items[1]
local before = vim.api.nvim_buf_get_lines(buffer, line, line + 1, true)[1]
vim.lsp.util.apply_text_edits({ { range = item.range, newText = item.insertText } }, buffer, client.offset_encoding)
if item.command then
  ask('workspace/executeCommand', { command = item.command.command, arguments = item.command.arguments })
end
local n_accepted = command('loracle.status').accepted
local after = vim.api.nvim_buf_get_lines(buffer, line, line + 1, true)[1]

vim.fn.search([[\<def total_price]])
vim.cmd('normal! w')
local hover = ask('textDocument/hover', vim.lsp.util.make_position_params(0, client.offset_encoding))
local capabilities = vim.tbl_keys(client.server_capabilities)

client:stop()
wait_for('the server to end', function()
  return client:is_stopped()
end)
io.stdout:write(vim.json.encode({
  encoding = client.offset_encoding,
  version = tostring(vim.version()),
  capabilities = capabilities,
  insert_text = item.insertText,
  line_before = before,
  line_after = after,
  n_accepted = n_accepted,
  hover = hover and hover.contents and hover.contents.value or vim.NIL,
}))
