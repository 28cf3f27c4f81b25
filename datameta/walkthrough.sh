# One value out of a JSON answer, by the path to it.
pick() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }

# A request to the portal: the key, the address, then what curl takes. It stops at a refusal and shows it.
ask() { curl -sS --fail-with-body -H "Authorization: Bearer $1" -H 'Content-Type: application/json' "$URL$2" "${@:3}"; }

# Announce a file, send its bytes, confirm them. Prints the file's id.
upload() {
  local sum answer id headers
  sum=$(python3 -c 'import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], "rb"), "md5").hexdigest())' "$2")
  answer=$(ask "$1" /files -d "{\"name\": \"$2\", \"checksum\": \"$sum\"}")
  id=$(echo "$answer" | pick id.site)
  headers=$(echo "$answer" | python3 -c 'import json, sys
for name, value in json.load(sys.stdin)["requestHeaders"].items(): print(f"{name}: {value}")')
  curl -sS --fail-with-body -T "$2" -H "$headers" "$(echo "$answer" | pick urlToUpload)" >&2
  ask "$1" "/files/$id" -X PUT -d '{"contentUploaded": true}' >&2 && echo >&2
  echo "$id"
}

# 1. The lab sends two files and stages the sample that they belong to.
SAMPLE="S$(date +%s)-$RANDOM"
echo "@read1" > "${SAMPLE}_R1.fastq"
echo "@read2" > "${SAMPLE}_R2.fastq"
R1=$(upload "$KEY" "${SAMPLE}_R1.fastq")
R2=$(upload "$KEY" "${SAMPLE}_R2.fastq")
SET=$(ask "$KEY" /metadatasets -d "{\"record\": {\"Lab-ID\": \"$SAMPLE\", \"Sampling date\": \"2026-03-14\", \"ZIPCode\": \"720\",
  \"Sequencing platform\": \"Illumina\", \"FileR1\": \"${SAMPLE}_R1.fastq\", \"FileR2\": \"${SAMPLE}_R2.fastq\"}}" | pick id.site)

# 2. It tries the submission, then makes it: all or nothing.
BODY="{\"metadatasetIds\": [\"$SET\"], \"fileIds\": [\"$R1\", \"$R2\"], \"label\": \"First run\"}"
ask "$KEY" /presubvalidation -d "$BODY"
ask "$KEY" /submissions -d "$BODY" && echo

# 3. The service's bot sees what awaits it, and answers with an accession and a report.
SERVICE=$(ask "$KEY" /metadata | python3 -c 'import json, sys
print(next(field["serviceId"]["site"] for field in json.load(sys.stdin) if field["name"] == "Accession"))')
ask "$BOT" "/metadatasets?awaitingService=$SERVICE" && echo
echo "all is well" > "${SAMPLE}_report.txt"
REPORT=$(upload "$BOT" "${SAMPLE}_report.txt")
ask "$BOT" "/service-execution/$SERVICE/$SET" -d "{\"record\": {\"Accession\": \"ACC-$SAMPLE\",
  \"Report\": \"${SAMPLE}_report.txt\"}, \"fileIds\": [\"$REPORT\"]}" && echo

# 4. The result is on the sample; the report can be fetched.
ask "$BOT" "/metadatasets/$SET" && echo
curl -sS --fail-with-body "$(ask "$BOT" "/rpc/get-file-url/$REPORT" | pick fileUrl)"
