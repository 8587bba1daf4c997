"""From a call to candidates: the plan, the pipeline, the particles, the run and its rounds."""
