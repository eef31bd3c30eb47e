"""Files on disk: archives, downloads, writing that leaves nothing half-written."""
