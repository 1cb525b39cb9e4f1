"""Planted mistakes, and for each the tests that must turn red."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Args:
        name: what is wrong.
        file: where, from the repository's root.
        found: text that stands there exactly once.
        replaced: what it becomes.
        tests: node ids; each must fail by assertion (with parameters, at least one of its cases).
    """

    name: str
    file: str
    found: str
    replaced: str
    tests: tuple[str, ...]


AER = "plugins/qpabench-aer/qpabench_aer"
PERPLEXITY = "tests/training/test_perplexity.py"
SCRIPT = f"{PERPLEXITY}::test_the_base_figure_is_that_of_the_script"
DENSE = "tests/circuits/test_native.py::test_ansatz_probabilities_equal_dense_kronecker_matrices"

TARGETS = (
    Mutant(
        "plain logits that ignore the adapter",
        "qpabench/training/plain_head.py",
        "logits = logits + factors.low_rank[0] @ factors.low_rank[1].T",
        "pass",
        ("tests/targets/test_lora.py::test_logits_are_those_of_peft",),
    ),
    Mutant(
        "a head that ignores its adapter when measuring",
        "qpabench/training/head.py",
        "given = (factors.inputs, u, B, factors.scale, weight, bias, labels)\n        found",
        "given = (factors.inputs, None, None, factors.scale, weight, bias, labels)\n        found",
        (
            "tests/training/test_head.py::test_token_nll_is_cross_entropy",
            f"{PERPLEXITY}::test_a_trained_lora_merged_into_the_model_measures_the_same",
        ),
    ),
    Mutant(
        "kept logits of other positions",
        "qpabench/training/kept_loss.py",
        "rows = np.searchsorted(self._positions, wanted)",
        "rows = np.searchsorted(self._positions, wanted) // 2 * 2",
        ("tests/training/test_kept.py::test_a_cell_gives_the_same_numbers_where_only_text_is_kept",),
    ),
    Mutant(
        "kept logits without the adapter",
        "qpabench/training/kept_loss.py",
        "torch.addmm(given, u[part], Bt, out=buffer[: len(given)])",
        "buffer[: len(given)].copy_(given)",
        ("tests/training/test_kept.py::test_token_nll_is_that_of_float64",),
    ),
    Mutant(
        "compiled exponentials without the adapter",
        "qpabench/training/lanes.py",
        "y = builder.fadd(y, plus(builder, pair, weights[k], columns[k]))",
        "plus(builder, pair, weights[k], columns[k])",
        ("tests/training/test_exponentials.py::test_whole_rows_give_sums_and_gradient",),
    ),
    Mutant(
        "a compiled gradient that counts every token alike",
        "qpabench/training/kernels.py",
        "share = weights[t] / sums[t, rank]",
        "share = weights[0] / sums[t, rank]",
        ("tests/training/test_exponentials.py::test_whole_rows_give_sums_and_gradient",),
    ),
    Mutant(
        "a compiled exponential that hides what is no number",
        "qpabench/training/lanes.py",
        "builder.fcmp_ordered(comparison, y, bound)",
        "builder.fcmp_unordered(comparison, y, bound)",
        (
            "tests/training/test_exponentials.py::test_a_logit_that_is_no_number_is_not_hidden_far_from_label_and_maximum",
        ),
    ),
    Mutant(
        "the last few outputs take the low-rank factor of the first ones",
        "qpabench/training/kernels.py",
        "few[1 + k, i] = Bt[last + k, b + whole + i]",
        "few[1 + k, i] = Bt[last + k, b + i]",
        ("tests/training/test_exponentials.py::test_parts_of_the_outputs_add_up",),
    ),
    Mutant(
        "a head that ignores its adapter when training",
        "qpabench/training/one_pass.py",
        "z.addmm_(u, B[part].T)",
        "pass",
        ("tests/training/test_head.py::test_fast_loss_is_the_plain_loss",),
    ),
    Mutant(
        "LoRA scaled by alpha / sqrt(rank)",
        "qpabench/targets/options.py",
        "else self.alpha / self.rank",
        "else self.alpha / self.rank**0.5",
        ("tests/targets/test_lora.py::test_logits_are_those_of_peft",),
    ),
    Mutant(
        "dropout goes on when measuring",
        "qpabench/targets/target.py",
        "if random is None or probability == 0:",
        "random = random or torch.Generator()\n    if probability == 0:",
        ("tests/targets/test_lora.py::test_dropout_is_off_when_measuring",),
    ),
    Mutant(
        "DoRA's norm takes part in the gradient",
        "qpabench/targets/dora.py",
        "@torch.no_grad()\n",
        "@torch.enable_grad()\n",
        ("tests/targets/test_dora.py::test_gradients_are_those_of_peft",),
    ),
    Mutant(
        "DoRA's magnitude has half its gradient",
        "qpabench/targets/dora.py",
        '(squares.sqrt() + tensors["magnitude"])',
        '(squares.sqrt() + tensors["magnitude"] / 2 + tensors["magnitude"].detach() / 2)',
        ("tests/targets/test_dora.py::test_gradients_are_those_of_peft",),
    ),
    Mutant(
        "DoRA's magnitude belongs to the wrong axis",
        "qpabench/targets/dora.py",
        "torch.linalg.vector_norm(weight, dim=1)",
        "torch.linalg.vector_norm(weight, dim=0).mean().expand(len(weight))",
        ("tests/targets/test_dora.py::test_logits_are_those_of_peft",),
    ),
    Mutant(
        "the added prefix is read literally",
        "qpabench/targets/prefix.py",
        'if self.options.reading == "literal":',
        "if self.options.reading:",
        ("tests/targets/test_prefix_and_ffa.py::test_each_position_gets_its_vector",),
    ),
    Mutant(
        "an export with another alpha",
        "qpabench/targets/lora.py",
        "alpha = self.options.scale * self.options.rank",
        "alpha = self.options.rank",
        ("tests/test_export.py::test_loaded_adapter_has_the_logits_of_the_cell",),
    ),
)

MEASURING = (
    Mutant(
        "the mask of text is off by one",
        "qpabench/training/write_features.py",
        "rows.mask[:, 1:][scored] == 1)",
        "rows.mask[:, :-1][scored] == 1)",
        (SCRIPT,),
    ),
    Mutant(
        "the padded count is off by one",
        "qpabench/training/evaluate.py",
        "/ np.bincount(batch)",
        "/ (np.bincount(batch) - 1)",
        (SCRIPT,),
    ),
    Mutant(
        "the padded figure weighs tokens, not batches",
        "qpabench/training/evaluate.py",
        "float(means.mean())",
        "float(values.mean())",
        (SCRIPT,),
    ),
    Mutant(
        "the masked figure is a mean of batch means",
        "qpabench/training/evaluate.py",
        "float(values[mask].mean())",
        "float(np.mean([values[mask & (batch == b)].mean() for b in set(batch[mask])]))",
        (SCRIPT,),
    ),
    Mutant(
        "labels aren't shifted",
        "qpabench/training/write_features.py",
        "labels = rows.ids[:, 1:][scored]",
        "labels = rows.ids[:, :-1][scored]",
        (SCRIPT,),
    ),
    Mutant(
        "overlapping windows score tokens twice",
        "qpabench/training/rows.py",
        "first[index] = done - start",
        "first[index] = 1",
        ("tests/training/test_rows.py::test_windows_score_every_token_but_the_first_exactly_once", SCRIPT),
    ),
    Mutant(
        "bits per byte are bits per character",
        "qpabench/training/write_features.py",
        "len(text.encode())",
        "len(text)",
        (SCRIPT,),
    ),
    Mutant(
        "the base model is measured with its adapter",
        "qpabench/training/evaluate.py",
        "base = test.base_nll.numpy()",
        "base = nll",
        (f"{PERPLEXITY}::test_training_leaves_the_base_figures_alone",),
    ),
    Mutant(
        "validation is measured on the test rows",
        "qpabench/training/evaluate.py",
        'validation = features.splits["validation"]',
        'validation = features.splits["test"]',
        (f"{PERPLEXITY}::test_validation_is_measured_on_its_own_rows",),
    ),
    Mutant(
        "a learning rate is selected on the test rows",
        "qpabench/records/selection.py",
        'CRITERION = "validation_perplexity_masked"',
        'CRITERION = "perplexity_masked"',
        (
            "tests/records/test_selection.py::test_lowest_validation_perplexity_is_selected_whatever_the_test_says",
        ),
    ),
)

GENERATORS = (
    Mutant(
        "a generator whose gradient to the angles is cut",
        "qpabench/generators/qpa.py",
        "self.context.circuit(self.angles.flatten())",
        "self.context.circuit(self.angles.flatten()).detach()",
        (
            "tests/generators/test_qpa.py::test_zero_start_leaves_a_gradient",
            "tests/generators/test_released_reference.py::test_gradient_of_theta_agrees",
        ),
    ),
    Mutant(
        "the loop cuts the gradient to the generator",
        "qpabench/training/passes.py",
        "tensor.detach().requires_grad_(tensor.requires_grad)",
        "tensor.detach()",
        ("tests/training/test_loop.py::test_training_lowers_the_loss",),
    ),
    Mutant(
        "initial angles ignore the seed",
        "qpabench/generators/qpa.py",
        'derive_seed(context.seed, "angles")',
        'derive_seed(0, "angles")',
        ("tests/generators/test_qpa.py::test_another_seed_gives_other_angles",),
    ),
    Mutant(
        "the mapping model ignores the seed",
        "qpabench/generators/qpa.py",
        'derive_seed(seed, "mapping")',
        'derive_seed(0, "mapping")',
        ("tests/generators/test_qpa.py::test_another_seed_gives_another_mapping_model",),
    ),
    Mutant(
        "redrawn basis strings ignore the seed",
        "qpabench/generators/generator.py",
        "derive_seed(self.context.seed, purpose)",
        "derive_seed(0, purpose)",
        ("tests/generators/test_qpa.py::test_another_seed_draws_other_strings",),
    ),
    Mutant(
        "direct initial values ignore the seed",
        "qpabench/generators/direct.py",
        'derive_seed(seed, "initial-values", spec.name)',
        'derive_seed(0, "initial-values", spec.name)',
        ("tests/generators/test_direct.py::test_other_seed_other_numbers",),
    ),
    Mutant(
        "the order of the data ignores the seed",
        "qpabench/training/loop.py",
        'derive_seed(seed, "data-order", epoch)',
        'derive_seed(0, "data-order", epoch)',
        ("tests/training/test_loop.py::test_another_seed_gives_another_order",),
    ),
    Mutant(
        "uniform probabilities in place of the circuit's",
        "qpabench/generators/qpa.py",
        "feature = probabilities[: self.n_chunks].float()",
        "feature = torch.full_like(probabilities, 1 / len(probabilities))[: self.n_chunks].float()",
        ("tests/generators/test_released_reference.py::test_generated_weights_agree",),
    ),
    Mutant(
        "the bits of basis strings are reversed",
        "qpabench/generators/qpa.py",
        "torch.arange(n_qubits, device=strings.device)) & 1",
        "torch.arange(n_qubits, device=strings.device).flip(0)) & 1",
        ("tests/generators/test_qpa.py::test_bits_stand_least_significant_first",),
    ),
    Mutant(
        "the count of parameters misses theta",
        "qpabench/suite/cell.py",
        "(self.n_theta if self.ledger.trains_theta else 0)",
        "0",
        ("tests/generators/test_counts.py::test_trainable_numbers_are_the_published_ones",),
    ),
    Mutant(
        "a record counts no angles",
        "qpabench/training/loop.py",
        '"n_theta": n_theta,',
        '"n_theta": 0,',
        ("tests/training/test_loop.py::test_counts_come_from_the_modules",),
    ),
    Mutant(
        "n_generated counts what is trained",
        "qpabench/training/loop.py",
        '"n_generated": built.generator.context.n_generated',
        '"n_generated": n_trainable',
        ("tests/training/test_loop.py::test_counts_come_from_the_modules",),
    ),
)

CIRCUITS = (
    Mutant(
        "the bit order of CNOTs is reversed",
        "qpabench/circuits/layers.py",
        "(((states >> (n_qubits - 1 - control)) & 1) << (n_qubits - 1 - target))",
        "(((states >> control) & 1) << target)",
        (DENSE,),
    ),
    Mutant(
        "Aer's bit order is left as it is",
        f"{AER}/qiskit_circuit.py",
        "result.measure(range(circuit.n_qubits), range(circuit.n_qubits))",
        "result.measure(range(circuit.n_qubits), reversed(range(circuit.n_qubits)))",
        ("tests/plugins/test_aer.py::test_aer_shots[bit-order]",),
    ),
    Mutant(
        "the CNOT chain runs the other way",
        "qpabench/circuits/circuit.py",
        'yield Gate("cx", (qubit, qubit + 1))',
        'yield Gate("cx", (qubit + 1, qubit))',
        ("tests/circuits/test_circuit.py::test_the_cnot_chain_runs_from_first_to_last_qubit",),
    ),
    Mutant(
        "rotations turn by the whole angle",
        "qpabench/circuits/layers.py",
        "halves=((by_block < circuit.n_angles) / 2)",
        "halves=((by_block < circuit.n_angles) / 1)",
        (DENSE,),
    ),
    Mutant(
        "a chain moves the columns of lower rows as those of upper rows",
        "qpabench/circuits/layers.py",
        "return states, row[..., 0].flatten(), column[:, 0]",
        "return states, row[..., 0].flatten(), column[:1, 0].expand(2, -1)",
        (DENSE,),
    ),
    Mutant(
        "the adjoint gradient has the wrong sign",
        "qpabench/circuits/native.py",
        "torch.mul(plan.stored(cotangent), state.conj(), out=bra)",
        "torch.mul(plan.stored(cotangent), -state.conj(), out=bra)",
        ("tests/circuits/test_native.py::test_the_gradient_equals_finite_differences_of_dense_matrices",),
    ),
    Mutant(
        "the adjoint gradient of the compiled loops has the wrong sign",
        "qpabench/circuits/fast.py",
        "out=bra[:, :, : plan.size])\n    slopes",
        "out=bra[:, :, : plan.size])\n    bra.neg_()\n    slopes",
        ("tests/circuits/test_gradients.py::test_exact_estimators_equal_the_exact_gradient",),
    ),
    Mutant(
        "a chain's loops forget the sign that a Pauli matrix leaves",
        "qpabench/circuits/chain_kernels.py",
        "-1.0 if x[q] ^ z[q] else 1.0",
        "-1.0 if x[q] and z[q] else 1.0",
        ("tests/circuits/test_chain.py::test_special_angles",),
    ),
    Mutant(
        "a chain's last bit flips are lost",
        "qpabench/circuits/chain_kernels.py",
        "flips = 2 * flips + x[q]",
        "flips = 2 * flips",
        ("tests/circuits/test_chain.py::test_special_angles",),
    ),
    Mutant(
        "tiles ignore the CNOT from the level above",
        "qpabench/circuits/chain_kernels.py",
        "turn_tiles(place, parity(outer), _tiles(levels, last)",
        "turn_tiles(place, parity(0), _tiles(levels, last)",
        ("tests/circuits/test_chain.py::test_many_levels",),
    ),
    Mutant(
        "a half's terms are not told apart",
        "qpabench/circuits/halves.py",
        "result ^= (rows >> qubit) & 1",
        "result |= (rows >> qubit) & 1",
        ("tests/circuits/test_chain.py::test_layers_on_halves_and_after_them",),
    ),
    Mutant(
        "the parameter-shift rule without its half",
        "qpabench/circuits/gradients.py",
        "return (plus - minus) / 2\n",
        "return plus - minus\n",
        ("tests/circuits/test_gradients.py::test_exact_estimators_equal_the_exact_gradient",),
    ),
    Mutant(
        "shots ignore their seed",
        "qpabench/circuits/native.py",
        'derive_seed(seed, "shots")',
        'derive_seed(0, "shots")',
        ("tests/circuits/test_native.py::test_the_same_seed_draws_the_same_shots_and_another_others",),
    ),
    Mutant(
        "Aer's shots ignore their seed",
        f"{AER}/backend.py",
        'derive_seed(seeds[0], "aer", *seeds[1:])',
        'derive_seed(0, "aer")',
        ("tests/plugins/test_aer.py::test_aer_shots[seeds-differ]",),
    ),
    Mutant(
        "a noisy backend without noise",
        f"{AER}/backend.py",
        "noise_model=transpiled.noise",
        "noise_model=None",
        ("tests/plugins/test_aer.py::test_noisy_custom[noise]",),
    ),
    Mutant(
        "a noisy density matrix without errors of gates",
        f"{AER}/pauli_transfer.py",
        "return None if found is None else transfer(SuperOp(found))",
        "return None",
        ("tests/plugins/test_native_noisy.py::test_probabilities_are_those_of_aers_density_matrix",),
    ),
    Mutant(
        "readout errors of a device left out",
        f"{AER}/pauli_transfer.py",
        "return np.eye(2) if found is None else",
        "return np.eye(2) if True else",
        ("tests/plugins/test_native_noisy.py::test_probabilities_are_those_of_aers_density_matrix",),
    ),
    Mutant(
        "one's own readout errors left out",
        f"{AER}/device.py",
        "noise.add_all_qubit_readout_error(",
        "str(",
        ("tests/plugins/test_native_noisy.py::test_a_readout_error_flips_each_bit_with_its_rate",),
    ),
)

REPORTS = (
    Mutant(
        "the verdict's interval takes rows as free of noise",
        "qpabench/reports/inference.py",
        "combined = np.maximum(ms_seed + ms_row - ms_rest, np.maximum(ms_seed, ms_row))",
        "combined = ms_seed",
        ("tests/reports/test_inference.py::test_the_interval_covers_the_truth_in_93_to_97_percent",),
    ),
    Mutant(
        "an interval resamples tokens, not rows",
        "qpabench/reports/statistics.py",
        "_, index = np.unique(rows, return_inverse=True)",
        "index = np.arange(len(rows))",
        ("tests/reports/test_intervals.py::test_rows_are_summed",),
    ),
    Mutant(
        "Holm's correction leaves p-values as they are",
        "qpabench/reports/inference.py",
        "(len(p_values) - rank) * p_values[index]",
        "p_values[index]",
        ("tests/reports/test_inference.py::test_holm_is_the_textbook_example",),
    ),
    Mutant(
        "the verdict isn't corrected for its family",
        "qpabench/reports/verdict.py",
        "differences = holm([e.p_difference or 0.0 for e in estimates])",
        "differences = [e.p_difference or 0.0 for e in estimates]",
        ("tests/reports/test_verdict.py::test_a_family_is_corrected_for_its_size",),
    ),
    Mutant(
        "the margin of equivalence is doubled",
        "qpabench/reports/inference.py",
        "inside = margin_nats - abs(self.nats)",
        "inside = 2 * margin_nats - abs(self.nats)",
        ("tests/reports/test_inference.py::test_equivalence_is_two_one_sided_t_tests",),
    ),
    Mutant(
        "compare takes worse for better",
        "qpabench/reports/compare.py",
        "(after < before) == described.lower_is_better",
        "(after > before) == described.lower_is_better",
        (
            "tests/reports/test_compare.py::test_higher_perplexity_is_a_regression",
            "tests/reports/test_compare.py::test_lower_perplexity_is_an_improvement",
        ),
    ),
    Mutant(
        "compare overlooks cells that vanished",
        "qpabench/reports/compare.py",
        'if change.verdict in ("worse", "vanished")]',
        'if change.verdict == "worse"]',
        ("tests/reports/test_compare.py::test_vanished_cell_is_a_regression",),
    ),
)

RUNNING = (
    Mutant(
        "a record's content hash isn't checked",
        "qpabench/records/record.py",
        "whole = hashed == content_hash(content)",
        "whole = hashed is not None",
        ("tests/records/test_record.py::test_edited_metric_is_detected",),
    ),
    Mutant(
        "a series isn't held against its record's hash",
        "qpabench/records/store.py",
        '_told_apart_by(content)["sha256"] != files[ending]["sha256"]',
        "ending not in files",
        ("tests/records/test_store.py::test_series_of_another_run_is_named",),
    ),
    Mutant(
        "a cell's id ignores how it is evaluated",
        "qpabench/suite/cell.py",
        "self.train.canonical(), self.evaluate.canonical(), str(self.seed)]",
        "self.train.canonical(), str(self.seed)]",
        ("tests/suite/test_cell.py::test_every_option_of_evaluation_changes_the_id",),
    ),
    Mutant(
        "a cell's id ignores its components' options",
        "qpabench/suite/cell.py",
        "{self.fingerprint}:{self.options.canonical()}",
        "{self.fingerprint}",
        ("tests/suite/test_cell.py::test_every_option_of_a_component_changes_the_id",),
    ),
    Mutant(
        "a cell's id ignores the text it is measured on",
        "qpabench/suite/cell.py",
        "#{self.fingerprint}:",
        "#:",
        ("tests/suite/test_cell.py::test_the_content_of_a_text_changes_the_id",),
    ),
    Mutant(
        "the timeout isn't applied",
        "qpabench/running/local.py",
        "if timeout is not None and seconds > timeout",
        "if timeout is None and seconds > 0",
        ("tests/running/test_limits.py::test_a_cell_past_its_timeout_is_stopped",),
    ),
    Mutant(
        "the limit of memory isn't applied",
        "qpabench/running/local.py",
        "_resident_bytes(running.process.pid) > memory",
        "memory < 0",
        ("tests/running/test_limits.py::test_a_cell_past_its_memory_is_stopped",),
    ),
    Mutant(
        "a plan runs a finished cell again",
        "qpabench/suite/plan.py",
        'return PlannedCell(cell, "cached", "")',
        'return PlannedCell(cell, "run", "")',
        ("tests/suite/test_plan.py::test_a_cell_that_ended_well_is_cached",),
    ),
    Mutant(
        "a worker runs a cell again that another runner finished",
        "qpabench/running/worker.py",
        'already.status != "ok"',
        "already.status",
        ("tests/running/test_limits.py::test_a_worker_leaves_a_finished_cell_alone",),
    ),
)

DEVICES = (
    Mutant(
        "on a GPU a sum over the vocabulary ends with its last whole piece",
        "qpabench/training/blocks.py",
        "return found if even == len(B) else found.addmm_(d_z[:, even:], B[even:])",
        "return found",
        ("tests/training/test_blocks.py::test_loss_and_gradients_are_those_of_autograd",),
    ),
    Mutant(
        "on a GPU a magnitude scales the gradient of B twice",
        "qpabench/training/blocks.py",
        "d_B *= scale.unsqueeze(1)",
        "d_B *= scale.unsqueeze(1) ** 2",
        ("tests/training/test_blocks.py::test_loss_and_gradients_are_those_of_autograd",),
    ),
    Mutant(
        "a replayed graph gives the gradients twice",
        "qpabench/training/passes.py",
        "gradient.copy_(new)",
        "gradient.copy_(2 * new)",
        ("tests/training/test_passes.py::test_recorded_passes_train_as_those_that_run",),
    ),
    Mutant(
        "a replayed graph has the strings of the first draw",
        "qpabench/training/passes.py",
        "            copied(value, into=self._drawn[name])\n        self._replays",
        "            pass\n        self._replays",
        ("tests/training/test_passes.py::test_recorded_passes_train_as_those_that_run",),
    ),
    Mutant(
        "a step reads its loss",
        "qpabench/training/step.py",
        "self.readings.loss(loss)",
        "self.readings.loss(torch.full_like(loss, loss.item()))",
        (
            "tests/training/test_step.py::test_a_step_reads_no_value_and_mixes_no_devices",
            "tests/training/test_step.py::test_a_step_makes_no_host_wait",
        ),
    ),
    Mutant(
        "a dropout mask stays on the CPU",
        "qpabench/targets/target.py",
        "moved(kept, inputs.device)",
        "kept",
        ("tests/training/test_step.py::test_a_step_reads_no_value_and_mixes_no_devices",),
    ),
)

MUTANTS = (*TARGETS, *MEASURING, *GENERATORS, *CIRCUITS, *REPORTS, *RUNNING, *DEVICES)
