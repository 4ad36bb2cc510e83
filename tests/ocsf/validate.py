"""Validates NDJSON entries on standard input against OCSF 1.8.0; unknown attributes are errors. Exit 1 on a finding."""

import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema


def main():
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
    validators, findings = {}, 0
    for number, line in enumerate(sys.stdin, 1):
        entry = json.loads(line)
        name = schema.lookup_class_name_from_uid(entry["class_uid"])
        profiles = entry["metadata"]["profiles"]
        key = (name, *profiles)
        if key not in validators:
            validators[key] = Draft202012Validator(schema.get_class_schema(name, profiles))
        kind = entry["unmapped"]["treeline"]["kind"]
        for error in validators[key].iter_errors(entry):
            findings += 1
            print(f"line {number} ({kind}, {name}): {error.json_path}: {error.message[:300]}")
    return 1 if findings else 0


sys.exit(main())
