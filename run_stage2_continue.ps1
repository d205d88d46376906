# Stage 2, going on from outputs/vision_bridge_vlm_final.pt if that is there.
# Further arguments are passed on. Environment: MAMBA_MODEL, STAGE2_EPOCHS, LOW_VRAM=1, LLM_8BIT=1, LLM_4BIT=1.
$global:LASTEXITCODE = 1  # stays so if there is no python
Push-Location -LiteralPath $PSScriptRoot
try {
    python train_vlm.py @args
} finally {
    Pop-Location
}
exit $LASTEXITCODE
