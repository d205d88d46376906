# Stage 2 from scratch in little GPU memory: 8-bit language model, short sequences.
# Further arguments are passed on. Environment: MAMBA_MODEL, STAGE2_EPOCHS, LOW_VRAM=1, LLM_8BIT=1.
$global:LASTEXITCODE = 1  # stays so if there is no python
Push-Location -LiteralPath $PSScriptRoot
try {
    python train_vlm.py --from_scratch '--llm_8bit' --max_visual_tokens 64 --max_text_len 256 --batch_size 1 @args
} finally {
    Pop-Location
}
exit $LASTEXITCODE
