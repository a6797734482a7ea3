"""The local cloud's own pages: jobs at `/`, everything else below `/ui/`, where no bucket's name can be."""
