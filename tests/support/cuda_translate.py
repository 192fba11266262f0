"""CUDA source to C++ that g++ compiles: shared memory, inline assembly, and a table of the kernels.

Line numbers stay those of the source that was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from cuda_ptx import SPECIAL, call_of

_PRELUDE_ENDS = re.compile(r"#define ushort unsigned short\s*\n#endif\s*\n")
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__|alignas)?(?:\(\d+\))?\s*([\w\s]+?)\s+(\w+)\s*\[\s*\]\s*;"
)
_STATIC = re.compile(r"__shared__\s+(?:(?:__align__|alignas)\((\d+)\)\s*)?")
_LOCAL = re.compile(r"^(\s*alignas\(\d+\)\s+[\w ]+?\s(\w+)\[\d+\];)", re.M)
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\((\d+)[^)]*\)\s*)?(\w+)\s*\(([^)]*)\)\s*\{'
)
_ASM = re.compile(r"\b(?:__asm__|asm)\b\s*(?:__volatile__|volatile)?\s*\(")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_TYPES = {"r": "uint32_t", "l": "uint64_t", "h": "uint16_t", "f": "float", "d": "double"}


class TranslationError(Exception):
    """The source holds something that the emulator does not know."""


def translate(source: str) -> str:
    """C++ that defines the source's kernels and `convc_kernels`, to be compiled with cuda_emulator/ptx.h."""
    prelude = _PRELUDE_ENDS.search(source)
    start = prelude.end() if prelude else 0
    body = re.sub(r"^\s*#\s*include.*$", "", source[start:], flags=re.M)
    body = _DYNAMIC.sub(r"\1 *const \2 = reinterpret_cast<\1 *>(convc::dynamic_shared());", body)
    body = _STATIC.sub(lambda m: f"static CONVC_SHARED __attribute__((aligned({m[1] or 1}))) ", body)
    body = _LOCAL.sub(r"\1 convc::poison(\2, sizeof \2);", body)
    first = source.count("\n", 0, start) + 1
    return f'#include "ptx.h"\n#line {first} "kernel.cu"\n{_assembly(body, first)}\n{_table(body)}'


def _table(body: str) -> str:
    calls, rows = [], []
    for index, found in enumerate(_KERNEL.finditer(body)):
        bound, name, parameters = found.groups()
        types = [re.sub(r"__restrict__|\w+\s*$", "", p).strip() for p in parameters.split(",") if p.strip()]
        values = ", ".join(f"*({type_} *)arguments[{i}]" for i, type_ in enumerate(types))
        calls.append(f"static void convc_call_{index}(void **arguments) {{ {name}({values}); }}")
        rows.append(f'{{"{name}", convc_call_{index}, {bound or 1024}}}')
    rows.append("{nullptr, nullptr, 0}")
    return "\n".join([*calls, f'extern "C" const convc::Kernel convc_kernels[] = {{ {", ".join(rows)} }};\n'])


def _assembly(body: str, first_line: int) -> str:
    """Every asm statement replaced by calls, with as many line ends as it had."""
    parts, position = [], 0
    while found := _ASM.search(body, position):
        end = _closing(body, found.end())
        line = first_line + body.count("\n", 0, found.start())
        try:
            text = _Statement.parse(body[found.end() : end]).cpp()
        except ValueError as error:
            raise TranslationError(f"line {line}: {error}") from None
        parts += [body[position : found.start()], text, "\n" * body.count("\n", found.start(), end)]
        position = end + 1
    return "".join([*parts, body[position:]])


def _closing(text: str, position: int) -> int:
    """The parenthesis that closes the one before `position`."""
    depth = 1
    while depth:
        if text[position] == '"':
            position = _skip_string(text, position)
            continue
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        position += 1
    return position - 1


def _skip_string(text: str, position: int) -> int:
    found = _STRING.match(text, position)
    if found is None:
        raise TranslationError("a string has no end")
    return found.end()


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that are in no bracket and no string."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        if text[position] == '"':
            position = _skip_string(text, position)
            continue
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[position], 0)
        if text[position] == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


@dataclass(frozen=True)
class _Operand:
    constraint: str
    expression: str

    @property
    def kind(self) -> str:
        kind = self.constraint.strip("=+&")
        if kind == "n":
            return "i"
        if kind not in _TYPES:
            raise ValueError(f"constraint '{self.constraint}' of inline assembly is not known")
        return kind


@dataclass
class _Statement:
    """One asm statement: its text, its operands, and the registers and labels that the text declares."""

    text: str
    outputs: list[_Operand]
    inputs: list[_Operand]
    registers: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, inside: str) -> _Statement:
        sections = [*_split(inside, ":"), "", "", ""]
        text = "".join(s[1:-1] for s in _STRING.findall(sections[0]))
        text = text.replace("\\n", "\n").replace("\\t", " ")
        return cls(text, _operands(sections[1]), _operands(sections[2]))

    def cpp(self) -> str:
        operands = self.outputs + self.inputs
        lines = [_declaration(index, operand) for index, operand in enumerate(operands)]
        body = [self._instruction(text) for text in _instructions(self.text)]
        lines += [f"{_TYPES.get(kind, 'bool')} r_{name};" for name, kind in self.registers.items()]
        stores = [f"convc::from_register({o.expression}, o_{i});" for i, o in enumerate(self.outputs)]
        labels = f"__label__ {', '.join(self.labels)};" if self.labels else ""
        return f"do {{ {' '.join([labels, *lines, *body, *stores])} }} while (0)"

    def _instruction(self, text: str) -> str:
        if text.startswith("."):
            return self._directive(text)
        if label := re.match(r"([\w$]+)\s*:(?!:)\s*", text):
            self.labels.append(label[1])
            return f"{label[1]}: {self._instruction(text[label.end() :]) if text[label.end() :] else ';'}"
        found = re.fullmatch(r"(?:@(!?)\s*([\w$%]+)\s+)?([\w.:]+)\s*(.*)", text, re.S)
        if found is None:
            raise ValueError(f"PTX text '{text}' is not an instruction")
        negated, predicate, opcode, rest = found.groups()
        condition = f"if ({'!' if negated else ''}{self._argument(predicate)[0]}) " if predicate else ""
        if opcode in ("bra", "bra.uni"):
            return f"{condition}goto {rest.strip()};"
        flat = _split(re.sub(r"[{}\[\]]", " ", rest), ",") if rest.strip() else []
        arguments = [self._argument(a.strip()) for a in flat]
        return f"{condition}{call_of(opcode, [a for a, _ in arguments], ''.join(k for _, k in arguments))};"

    def _directive(self, text: str) -> str:
        found = re.fullmatch(r"\.reg\s*\.(\w+)\s+([\w$%\s,]+)", text)
        if found is None:
            raise ValueError(f"PTX directive '{text}' is not known to the emulator")
        kinds = {"pred": "p", "f32": "f", "f64": "d", "16": "h", "32": "r", "64": "l"}
        kind = kinds.get(found[1]) or kinds.get(found[1][1:])
        if kind is None:
            raise ValueError(f"PTX registers of type '{found[1]}' are not known to the emulator")
        for name in found[2].split(","):
            self.registers[re.sub(r"\W", "_", name.strip())] = kind
        return ""

    def _argument(self, text: str) -> tuple[str, str]:
        """An operand as C++ and its kind; an address may have a constant added."""
        base, plus, offset = text.partition("+")
        value, kind = self._value(base.strip())
        return (f"{value} + {offset.strip()}", kind) if plus else (value, kind)

    def _value(self, text: str) -> tuple[str, str]:
        operands = self.outputs + self.inputs
        if re.fullmatch(r"%\d+", text):
            index = int(text[1:])
            if index >= len(operands):
                raise ValueError(f"PTX names operand {text}, but there are {len(operands)}")
            return f"o_{index}", operands[index].kind
        name = text.lstrip("%")
        if re.sub(r"\W", "_", text) in self.registers:
            name = re.sub(r"\W", "_", text)
            return f"r_{name}", self.registers[name]
        if name in SPECIAL:
            return SPECIAL[name], "r"
        if found := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text):
            return f"convc::bit_cast<float>(0x{found[1]}u)", "f"
        if re.fullmatch(r"-?(?:0[xX][0-9a-fA-F]+|\d+)[uU]?", text):
            return text, "i"
        raise ValueError(f"PTX operand '{text}' is not known to the emulator")


def _operands(text: str) -> list[_Operand]:
    found = [
        re.fullmatch(r'\s*"([^"]+)"\s*\((.*)\)\s*', part, re.S) for part in _split(text, ",") if part.strip()
    ]
    if not all(found):
        raise ValueError(f"the operands of inline assembly are not understood: {text.strip()}")
    return [_Operand(f[1], " ".join(f[2].split())) for f in found if f]


def _declaration(index: int, operand: _Operand) -> str:
    if operand.kind == "i":
        return f"constexpr long long o_{index} = {operand.expression};"
    kind = _TYPES[operand.kind]
    if operand.constraint.startswith("="):
        return f"{kind} o_{index}; convc::poison(&o_{index}, sizeof o_{index});"
    return f"{kind} o_{index} = convc::to_register<{kind}>({operand.expression});"


def _instructions(text: str) -> Iterator[str]:
    """The statements of PTX text, without comments and without the braces of scopes."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.S).replace("%%", "%")
    position = 0
    while position < len(text):
        if text[position].isspace() or text[position] in "{};":
            position += 1
            continue
        end = text.find(";", position)
        end = len(text) if end < 0 else end
        yield text[position:end].strip()
        position = end + 1
