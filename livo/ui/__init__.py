"""The page: one file a tab. Handlers are plain functions; nothing a person typed is ever markup."""
