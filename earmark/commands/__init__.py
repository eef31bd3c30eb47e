"""What the commands of a script with many of them do; they read its flags and speak through `script`."""
