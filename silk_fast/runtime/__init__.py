"""Running a codec: long audio from file to file in constant memory."""
