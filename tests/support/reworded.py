"""Import the step layer with other words in every sentence it says, to see whether anything hangs on them.

A sentence is text with a blank that goes to a person: an argument of one of `SPEAKERS`, a value given to one of
`SENTENCES`, the return value of one of `SPEAKING`. Commands, patterns and wire formats are left as they are.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

SPEAKERS = {
    *("StepError", "UnreachableError", "one_each", "refuse_silent", "Problem", "Exit", "InventoryError", "usage_error"),
    *("deviation", "warn", "note", "text", "Skipped", "Witness", "Devices", "Identity", "Prepared"),
    *("does_not_run", "append", "wait"),
}
SENTENCES = {
    *("found", "needed", "do", "summary", "words", "cause", "how", "reasons", "relays", "sees", "servers", "owners"),
    *("why", "advice", "mistakes", "changed", "labels", "_WORDS", "_WHO", "note", "detail", "alternatives"),
}
SPEAKING = {
    *("_unreachable", "likely_cause", "foreign", "words", "phrase", "_kind", "_in_the_way", "hub_problem", "device_of"),
    *("_groups", "_override", "_owner", "summary_of", "run_words"),
}
count = 0


class _Rewording(ast.NodeTransformer):
    """Reword the sentences of one module."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in SPEAKERS:
            node.args = [_reworded(argument) for argument in node.args]
            node.keywords = [ast.keyword(k.arg, _reworded(k.value)) for k in node.keywords]
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        names = {getattr(n, "id", getattr(n, "attr", "")) for target in node.targets for n in ast.walk(target)}
        if names & SENTENCES:
            node.value = _reworded(node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name) and node.target.id in SENTENCES and node.value is not None:
            node.value = _reworded(node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if getattr(node.target, "id", getattr(node.target, "attr", "")) in SENTENCES:
            node.value = _reworded(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        if node.name in SPEAKING:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    inner.value = _reworded(inner.value)
        return node


class _Words(ast.NodeTransformer):
    """Put other words in place of the text of one expression, what is filled into it left alone."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        global count
        if not isinstance(node.value, str) or " " not in node.value.strip() or node.value.startswith("~"):
            return node
        count += 1
        return ast.copy_location(ast.Constant(f"~ other words {count} ~"), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        global count
        count += 1
        node.values = [
            ast.Constant(f"~{count}~") if isinstance(part, ast.Constant) and str(part.value)[:1] != "~" else part
            for part in node.values
        ]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return node


def _reworded(expression: ast.expr) -> Any:
    return _Words().visit(expression)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile the module anew: its cached bytecode has the plain words, and must keep them."""
        path = self.get_filename(fullname)
        tree = _Rewording().visit(ast.parse(self.get_data(path), path))
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
        return code


class Finder:
    """Finds the modules of `tasks` and loads them reworded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name.partition(".")[0] != "tasks":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Reword every module of `tasks` that is imported from now on."""
    sys.meta_path.insert(0, Finder())
