#!/bin/sh
# Stage 2 from scratch, 8 batches a step, language model in full precision.
# Further arguments are passed on. Environment: MAMBA_MODEL, STAGE2_EPOCHS, LOW_VRAM=1, LLM_8BIT=1, LLM_4BIT=1.
cd "$(dirname "$0")" && exec python train_vlm.py --from_scratch --gradient_accumulation_steps 8 --no_llm_8bit "$@"
