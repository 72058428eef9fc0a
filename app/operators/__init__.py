"""MONAI Deploy operators: thin wrappers over the modules of ``covid_ct_mask_net.app``."""
