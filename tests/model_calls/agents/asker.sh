#!/usr/bin/env bash
# Asks a model what it is sent, and gives back the answer without what it took. As examples/echo.sh it cuts lines.
set -u
exec 3<&"$L02_FD" 4>&"$L02_FD"
echo '{"type":"hello","protocol":1,"name":"asker","tools":[]}' >&4
while IFS= read -r line <&3; do
  case $line in
    '{"type":"execute",'*)
      id=${line#*'"execution_id":"'} id=${id%%'"'*}
      input=${line#*'"input":'} input=${input%',"state":{}}'}
      printf '{"type":"call","execution_id":"%s","call":1,"kind":"model","model":"small","messages":[{"role":"user","content":%s}]}\n' "$id" "$input" >&4
      ;;
    '{"type":"answer",'*)
      result=${line#*'"result":'} result=${result%',"usage":'*}
      printf '{"type":"complete","execution_id":"%s","output":%s}}\n' "$id" "$result" >&4
      ;;
    '{"type":"shutdown"'*) exit 0 ;;
  esac
done
