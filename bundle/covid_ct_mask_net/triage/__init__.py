"""From slices to the volume: lesions, involvement, class, priority."""
