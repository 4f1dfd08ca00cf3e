#!/usr/bin/env bash
# The smallest agent: gives back what it is sent. Bash alone, to show how little the protocol asks for.
#
# Bash has no JSON parser, so it cuts the message at its fields, which the node always writes in this order:
#   {"type":"execute","execution_id":"...","input":...,"state":{}}
# The state is empty for ever, as this agent keeps none. A program that does more should parse JSON.
set -u
exec 3<&"$L02_FD" 4>&"$L02_FD"
echo '{"type":"hello","protocol":1,"name":"echo","tools":[]}' >&4
while IFS= read -r line <&3; do
  case $line in
    '{"type":"execute",'*)
      id=${line#*'"execution_id":"'} id=${id%%'"'*}
      input=${line#*'"input":'} input=${input%',"state":{}}'}
      printf '{"type":"complete","execution_id":"%s","output":%s,"state":{"set":{},"delete":[]}}\n' "$id" "$input" >&4
      ;;
    '{"type":"shutdown"'*) exit 0 ;;
  esac
done
