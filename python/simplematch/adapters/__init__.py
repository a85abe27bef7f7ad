"""Our models with the interfaces of other packages; each module needs its package."""
