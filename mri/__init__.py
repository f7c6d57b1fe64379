"""What the pipeline's stages and the service share: one module per concept."""
