"""Every hook a plugin may implement. The entry-point group is ``qpabench``.

A plugin is a module (or object) named by an entry point of that group:

    [project.entry-points.qpabench]
    my-plugin = "my_plugin"

and marks its functions with ``qpabench.hookimpl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pluggy

from qpabench.hooks.entries import (
    AnsatzEntry,
    BackendEntry,
    DatasetEntry,
    ExecutorEntry,
    GeneratorEntry,
    ModelEntry,
    ReporterEntry,
    TargetEntry,
)

PROJECT = "qpabench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def qpabench_backends() -> Iterable[BackendEntry]:  # type: ignore[empty-body]
    """Return circuit backends; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_backends():
            yield BackendEntry(name="mine", summary="my simulator", load="my_plugin.backend:MyBackend")
    """


@hookspec
def qpabench_ansatze() -> Iterable[AnsatzEntry]:  # type: ignore[empty-body]
    """Return ansätze; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_ansatze():
            yield AnsatzEntry(
                name="ring", summary="RY and a CNOT ring", load="my_plugin.ring:ring",
                angles_shape=lambda n_qubits, n_layers: (n_layers, n_qubits),
            )
    """


@hookspec
def qpabench_targets() -> Iterable[TargetEntry]:  # type: ignore[empty-body]
    """Return PEFT targets; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_targets():
            yield TargetEntry(
                name="bitfit", summary="a bias", load="my_plugin.bitfit:BitFit", options=BitFitOptions
            )
    """


@hookspec
def qpabench_datasets() -> Iterable[DatasetEntry]:  # type: ignore[empty-body]
    """Return datasets; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_datasets():
            yield DatasetEntry(
                name="novel", summary="a novel", load="my_plugin.novel:load", options=NovelOptions
            )
    """


@hookspec
def qpabench_models() -> Iterable[ModelEntry]:  # type: ignore[empty-body]
    """Return language models; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_models():
            yield ModelEntry(
                name="mine", summary="my model", load="my_plugin.model:load", options=MyModelOptions
            )
    """


@hookspec
def qpabench_generators() -> Iterable[GeneratorEntry]:  # type: ignore[empty-body]
    """Return weight generators; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_generators():
            yield GeneratorEntry(
                name="tiny", summary="one number", load="my_plugin.tiny:Tiny", options=TinyOptions
            )
    """


@hookspec
def qpabench_executors() -> Iterable[ExecutorEntry]:  # type: ignore[empty-body]
    """Return executors (where cells run); asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_executors():
            yield ExecutorEntry(
                name="cluster", summary="our cluster", load="my_plugin.cluster:ClusterExecutor"
            )
    """


@hookspec
def qpabench_reporters() -> Iterable[ReporterEntry]:  # type: ignore[empty-body]
    """Return reporters, called after the built-in report; asked once, when the registry is built.

    Example::

        @qpabench.hookimpl
        def qpabench_reporters():
            yield ReporterEntry(name="latex", summary="a LaTeX table", load="my_plugin.latex:write")
    """


@hookspec
def qpabench_cell_started(cell: Mapping[str, object]) -> None:
    """Told when a cell starts to run (in the runner's process), for trackers.

    Args:
        cell: the cell as in its record: ``id``, ``label`` and every option.

    Example::

        @qpabench.hookimpl
        def qpabench_cell_started(cell):
            tracker.start(cell["id"])
    """


@hookspec
def qpabench_cell_finished(record: Mapping[str, object]) -> None:
    """Told when a cell has its record (in the runner's process), for trackers.

    Args:
        record: the whole record: ``cell``, ``status``, ``reason``, ``metrics``, ``timing``, ``provenance``.

    Example::

        @qpabench.hookimpl
        def qpabench_cell_finished(record):
            tracker.log(record["metrics"])
    """
