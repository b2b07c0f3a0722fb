#!/usr/bin/env bash
# One run under SLURM, requeued at its time limit until it is complete:
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 docs/slurm.sh --config gcn_cora
#
# What follows the script's name are the words of `trellis fit`. See docs/slurm.md.
#SBATCH --job-name=trellis
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -uo pipefail

# A folder of the job's own, which a requeued job finds again: it keeps its number.
root=runs/slurm-$SLURM_JOB_ID
resume=()
last=$(ls -t "$root"/*/*/checkpoints/last.ckpt 2>/dev/null | head -n 1)
if [ -n "$last" ]; then
    echo "goes on from $last"
    resume=(--ckpt_path "$last")
fi

srun --kill-on-bad-exit=1 trellis fit "$@" --config trainer/slurm \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" \
    --trainer.default_root_dir "$root" --trainer.enable_progress_bar false \
    ${resume[@]+"${resume[@]}"} ${TRELLIS_SLURM_OPTIONS:-}
code=$?

# 143: SIGTERM came, 120 seconds before the limit, and last.ckpt was written.
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
