;;; Emacs 29.1 or newer with lsp-mode 10: ghost text, accepted with C-<return>; hover with `lsp-describe-thing-at-point'.
;; `:add-on? t' lets the server run beside the one you use already.
(with-eval-after-load 'lsp-mode
  (lsp-register-client
   (make-lsp-client
    :new-connection (lsp-stdio-connection '("loracle" "--stdio"))
    :major-modes '(python-mode python-ts-mode
                   js-mode js-ts-mode
                   typescript-mode typescript-ts-mode tsx-ts-mode)
    :add-on? t
    :server-id 'loracle)))

;; Two seconds by default; the server answers sooner.
(setq lsp-inline-completion-idle-delay 0.3)
