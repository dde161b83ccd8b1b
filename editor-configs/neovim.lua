-- Neovim 0.12: ghost text, accepted with <Tab>; hover with K.
-- Put this into init.lua. Neovim 0.11 gets hover only.
vim.lsp.config('loracle', {
  cmd = { 'loracle', '--stdio' },
  filetypes = { 'python', 'javascript', 'javascriptreact', 'typescript', 'typescriptreact' },
  root_markers = { '.git', 'pyproject.toml', 'package.json' },
})
vim.lsp.enable('loracle')

if vim.lsp.inline_completion then
  vim.lsp.inline_completion.enable()
  vim.keymap.set('i', '<Tab>', function()
    if not vim.lsp.inline_completion.get() then
      return '<Tab>'
    end
  end, { expr = true, desc = 'Accept the inline completion' })
end
