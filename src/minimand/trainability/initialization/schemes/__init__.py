"""The schemes of `initialize`, a family a file; a file in this folder is found by being here."""
