"""The commands of the command line, one a file; `minimand list commands` names them."""
