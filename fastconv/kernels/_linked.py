"""Libraries of Numba for functions that only other kernels call: LLVM IR to link into callers, no machine code of their own.

Numba optimises every function that it compiles as if it were called from Python, with all that it calls, and
emits machine code for it; and then its caller, with the same code inside, again. A chain of five functions is
worked through five times. Here only the outermost is, which saves a fifth of the time that a first call takes.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from numba.core.caching import CompileResultCacheImpl
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.environment import lookup_environment


class _WithoutEnvironments:
    """The code generator as a linked library shows it: there is no address at which an environment could be set."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing: the caller's library has the global."""


class LinkedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The IR of a function and of all that it calls, for its callers to optimise; never handed to the engine."""

    @property
    def codegen(self) -> Any:
        return _WithoutEnvironments(self._codegen)

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, which is Numba's word for a function without an address."""
        del name
        self._ensure_finalized()
        return 0

    def _optimize_final_module(self) -> None:
        """Leave it to the callers."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def serialize_using_object_code(self) -> tuple[str, str, bytes]:
        """Return the IR: what the cache stores."""
        return self.name, "bitcode", self._get_module_for_linking().as_bitcode()

    @classmethod
    def restored(cls, codegen: Any, state: tuple[str, str, bytes]) -> LinkedLibrary:
        """Return the library that was stored."""
        name, _, bitcode = state
        library = cls(codegen, name)
        library._final_module = llvm.parse_bitcode(bitcode)
        library._finalize_final_module()
        return library


class LinkingLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The machine code of a function and of the linked ones, whose environments (for what they raise) it sets."""

    def _finalize_specific(self) -> None:
        super()._finalize_specific()
        for variable in self._final_module.global_variables:
            if (environment := lookup_environment(variable.name)) is not None:
                self._codegen.set_env(variable.name, environment)


class LinkedCompiler(Compiler):  # type: ignore[misc]
    """Numba's compiler, into a `LinkedLibrary`."""

    library: type[JITCodeLibrary] = LinkedLibrary

    def define_pipelines(self) -> Any:
        """Return the usual passes."""
        self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return super().define_pipelines()


class LinkingCompiler(LinkedCompiler):
    """Numba's compiler, into a `LinkingLibrary`."""

    library = LinkingLibrary


class _Restoring:
    """A target context that makes a `LinkedLibrary` of what the cache holds."""

    def __init__(self, target_context: Any) -> None:
        self._context = target_context
        self.typing_context = target_context.typing_context
        self.get_executable = target_context.get_executable

    def codegen(self) -> _Restoring:
        return self

    def unserialize_library(self, state: Any) -> LinkedLibrary:
        return LinkedLibrary.restored(self._context.codegen(), state)


class LinkedCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """Stores and restores what `LinkedCompiler` compiled."""

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """Return the stored compilation."""
        restored = CompileResult._rebuild(_Restoring(target_context), *payload)  # noqa: SLF001
        return restored._replace(target_context=target_context)
