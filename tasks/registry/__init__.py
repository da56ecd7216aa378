"""Registry: what is done with a registered student: pull it, predict with it, follow its lineage."""
