"""Any configuration by its schema: keys, types, values that programs would misread, and defaults.

Only the standard library and what Snakemake brings are imported here.
"""

import copy
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from snakemake.exceptions import WorkflowError

# Keys that people try, and what to write instead.
RENAMED = {
    "model": "list models under `models`, by name",
    "n_tokens": "write `tokens.rows` (rows of `tokens.row_length` tokens)",
    "percentile": "write `analysis.top_fraction` (0.02 for the top 2 %)",
    "batch_size": "batches are chosen to fit `memory`; shards by `ablation.tokens_per_shard`",
}
# Keys of files, and of names in them, that rules read.
PLAIN = (".path", ".text", ".split", ".kinds", "reference", "corpus", "tokenizer")


def check_configuration(config: dict[str, Any], configfiles: list[Path], schema: Path) -> None:
    """Check a configuration by its schema, and give what it does not say the schema's defaults, in place.

    Raises:
        WorkflowError: as `read_settings`.
    """
    for file in configfiles:
        _check_keys(file)
    described = yaml.safe_load(schema.read_text())
    fill_in(config, described)
    _check_values(config, "")
    _check_schema(config, described)


def fill_in(config: dict[str, Any], schema: dict[str, Any]) -> None:
    """Give every key that is not there the schema's default, in place; what is there is left as it is."""
    for key, described in schema.get("properties", {}).items():
        if "default" in described:
            config.setdefault(key, copy.deepcopy(described["default"]))
        if isinstance(config.get(key), dict):
            fill_in(config[key], described)


def _check_values(value: Any, place: str) -> None:
    """Refuse what a schema lets pass: numbers that are none, and texts that a program would take for an option."""
    if isinstance(value, dict):
        for key, entry in value.items():
            _check_values(key, place or "configuration")
            _check_values(entry, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for entry in value:
            _check_values(entry, place)
    elif isinstance(value, float) and not math.isfinite(value):
        raise WorkflowError(f"{place}: {value} is no number; give a finite one")
    elif isinstance(value, str) and value.startswith("-"):
        raise WorkflowError(
            f"{place}: `{value}` begins with a dash, as an option of a program does; write another name"
        )
    elif isinstance(value, str) and place.endswith(PLAIN) and set(value) & set("{}<>"):
        raise WorkflowError(f"{place}: `{value}` holds a brace or `<`, which stand for wildcards; rename it")
    elif isinstance(value, str) and not value.isprintable():
        raise WorkflowError(f"{place}: {value!r} holds a character that can't be printed; remove it")


def _is_integer(checker: jsonschema.TypeChecker, value: Any) -> bool:
    """160.0 is none: programs would not take it."""
    return isinstance(value, int) and not isinstance(value, bool)


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _check_schema(config: dict[str, Any], schema: dict[str, Any]) -> None:
    validator = Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(config))
    if error is None:
        return
    place = ".".join(map(str, error.absolute_path)) or "configuration"
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = sorted(error.schema.get("properties", {}))
        patterns = error.schema.get("patternProperties", {})
        unknown = [key for key in error.instance if key not in known and not any(re.search(p, key) for p in patterns)]
        hints = [f"`{key}`: {RENAMED[key]}" for key in unknown if key in RENAMED]
        allowed = f"allowed are {', '.join(known)}" if known else "names may hold letters, digits, `.`, `_` and `-`"
        raise WorkflowError(f"{place}: unknown key {', '.join(unknown)}; {allowed}. {' '.join(hints)}".rstrip())
    raise WorkflowError(f"{place}: {error.message}. {error.schema.get('description', '')}".rstrip())


def _check_keys(file: Path) -> None:
    """Refuse what YAML reads as something else in silence: of equal keys the last, octal and sexagesimal numbers.

    Two models of one name would become one, and `012` ten. Nor can what holds itself be read to its end.
    """

    def check(node: yaml.Node, place: str, above: tuple[yaml.Node, ...] = ()) -> None:
        if node in above:
            raise WorkflowError(f"{file}: `{place}` is an alias of what it stands in; write out what is meant")
        if node.tag == "tag:yaml.org,2002:int" and not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", node.value):
            raise WorkflowError(
                f"{file}: `{place}: {node.value}` is no plain number; write it in digits, without a 0 first"
            )
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                here = f"{place}.{key.value}" if place else str(key.value)
                if key.tag == "tag:yaml.org,2002:merge":
                    raise WorkflowError(f"{file}: `{here}`: merging is not supported; write the keys out")
                if key.tag != "tag:yaml.org,2002:str":
                    raise WorkflowError(f"{file}: the key `{here}` is no text; put it in quotes")
                if key.value in seen:
                    raise WorkflowError(f"{file}: `{here}` is there twice; rename or remove one")
                seen.add(key.value)
                check(value, here, (*above, node))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                check(value, f"{place}[{index}]", (*above, node))

    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(
            f"{file} can't be read as text ({error}); correct its path, or convert it to UTF-8"
        ) from None
    if (whole := yaml.compose(text)) is not None:
        check(whole, "")
