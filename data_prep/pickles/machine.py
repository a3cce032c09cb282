"""The interpreter of pickles' opcodes, protocols 0 to 5."""

import pickle as codes  # for the names of the opcodes alone
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from data_prep.archives import Tree
from data_prep.archives.base import readable
from data_prep.pickles.calls import Builder, find_name
from data_prep.pickles.limits import Budget, Refused
from data_prep.pickles.scanner import Scanner
from data_prep.pickles.spans import Spool
from data_prep.stored_arrays import OpenFile

Container = TypeVar("Container", list[Any], dict[Any, Any])


class Machine:
    """Runs one pickle; what it opens is closed with the tree."""

    def __init__(self, tree: Tree, source: OpenFile, budget: Budget) -> None:
        self._tree = tree
        self._source = source
        self._budget = budget
        with readable(source.path, source.name):
            self._scanner = Scanner(source, budget)
        self._builder = Builder(source, self._get_spool, budget)
        self._spool: Spool | None = None
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._handlers = {**self._value_handlers(), **self._stack_handlers()}

    def run(self) -> object:
        """Return what the pickle holds; DataError if it is none, or not one of plain data."""
        with readable(self._source.path, self._source.name):
            try:
                return self._run()
            except (LookupError, TypeError, struct.error, OverflowError) as error:
                raise Refused("it is not a pickle, or it is damaged") from error

    def _run(self) -> object:
        read, handlers, stop = self._scanner.read, self._handlers, codes.STOP
        for _ in self._budget.opcodes(self._scanner.size):
            code = read(1)
            if code == stop:
                return self._stack.pop()
            handler = handlers.get(code)
            if handler is None:
                if not code:
                    raise EOFError("it is cut short")
                raise Refused(f"it has the opcode {code!r}, which plain data does not need")
            handler()
        raise AssertionError("a budget ends with an exception")

    def _value_handlers(self) -> dict[bytes, Callable[[], None]]:
        """Return the opcodes that put a value on the stack, and what each does."""
        scanner = self._scanner
        values: dict[bytes, Callable[[], Any]] = {
            codes.NONE: lambda: None,
            codes.NEWTRUE: lambda: True,
            codes.NEWFALSE: lambda: False,
            codes.EMPTY_TUPLE: tuple,
            codes.EMPTY_LIST: list,
            codes.EMPTY_DICT: dict,
            codes.BININT: scanner.number("<i"),
            codes.BININT1: scanner.number("<B"),
            codes.BININT2: scanner.number("<H"),
            codes.BINFLOAT: scanner.number(">d"),
            codes.LONG1: scanner.long,
            codes.INT: scanner.integer_line,
            codes.LONG: scanner.integer_line,
            codes.FLOAT: lambda: float(scanner.line()),
            codes.SHORT_BINSTRING: scanner.string("<B"),
            codes.BINSTRING: scanner.string("<I"),
            codes.SHORT_BINBYTES: scanner.string("<B"),
            codes.BINBYTES: scanner.string("<I"),
            codes.BINBYTES8: scanner.string("<Q"),
            codes.BYTEARRAY8: scanner.string("<Q"),
            codes.STRING: scanner.string_line,
            codes.SHORT_BINUNICODE: scanner.text("<B"),
            codes.BINUNICODE: scanner.text("<I"),
            codes.BINUNICODE8: scanner.text("<Q"),
            codes.UNICODE: scanner.text_line,
            codes.GLOBAL: lambda: find_name(scanner.line(), scanner.line()),
        }
        return {code: partial(self._push, read_value) for code, read_value in values.items()}

    def _stack_handlers(self) -> dict[bytes, Callable[[], None]]:
        """Return the opcodes that work on what is there, and what each does."""
        scanner = self._scanner
        get, put_at = self._get, self._put
        return {
            # The bytes of a frame follow its header as if there were none.
            codes.PROTO: partial(self._skip, 1),
            codes.FRAME: partial(self._skip, 8),
            codes.BINGET: partial(get, scanner.size_number("<B")),
            codes.LONG_BINGET: partial(get, scanner.size_number("<I")),
            codes.GET: partial(get, scanner.integer_line),
            codes.BINPUT: partial(put_at, scanner.size_number("<B")),
            codes.LONG_BINPUT: partial(put_at, scanner.size_number("<I")),
            codes.PUT: partial(put_at, scanner.integer_line),
            codes.MEMOIZE: partial(put_at, self._memo.__len__),
            codes.MARK: lambda: self._marks.append(len(self._stack)),
            codes.POP: self._pop,
            codes.POP_MARK: self._pop_mark,
            codes.DUP: lambda: self._stack.append(self._stack[-1]),
            codes.TUPLE1: partial(self._short_tuple, 1),
            codes.TUPLE2: partial(self._short_tuple, 2),
            codes.TUPLE3: partial(self._short_tuple, 3),
            codes.TUPLE: lambda: self._stack.append(tuple(self._since_mark())),
            codes.LIST: lambda: self._stack.append(self._since_mark()),
            codes.DICT: self._dict,
            codes.APPEND: self._append,
            codes.APPENDS: self._appends,
            codes.SETITEM: self._set_item,
            codes.SETITEMS: lambda: self._fill(self._since_mark()),
            codes.STACK_GLOBAL: lambda: self._stack.append(find_name(*self._pop_two())),
            codes.REDUCE: lambda: self._stack.append(self._builder.call(*self._pop_two())),
            codes.BUILD: self._build,
        }

    def _push(self, read_value: Callable[[], Any]) -> None:
        self._stack.append(read_value())

    def _skip(self, size: int) -> None:
        self._scanner.exactly(size)

    def _get(self, read_place: Callable[[], int]) -> None:
        self._stack.append(self._memo[read_place()])

    def _put(self, read_place: Callable[[], int]) -> None:
        self._memo[read_place()] = self._stack[-1]

    def _pop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _pop_two(self) -> tuple[Any, Any]:
        second = self._stack.pop()
        return self._stack.pop(), second

    def _pop_mark(self) -> None:
        self._since_mark()

    def _since_mark(self) -> list[Any]:
        first = self._marks.pop()
        items = self._stack[first:]
        del self._stack[first:]
        return items

    def _short_tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise IndexError("the stack is empty")
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def _top(self, kind: type[Container]) -> Container:
        top: Container = self._stack[-1]
        if type(top) is not kind:
            raise Refused("it adds to something that is neither a list nor a dict")
        return top

    def _dict(self) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._fill(items)

    def _append(self) -> None:
        item = self._stack.pop()
        self._top(list).append(item)

    def _appends(self) -> None:
        items = self._since_mark()
        self._top(list).extend(items)

    def _set_item(self) -> None:
        key, value = self._pop_two()
        self._builder.put(self._top(dict), key, value)

    def _fill(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise Refused("it has a key without a value")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._builder.put(target, key, value)

    def _build(self) -> None:
        state = self._stack.pop()
        self._builder.set_state(self._stack[-1], state)

    def _get_spool(self) -> Spool:
        if self._spool is None:
            self._spool = Spool(self._source, self._scanner.size)
            self._tree.keep(self._spool.file.file)
        return self._spool
