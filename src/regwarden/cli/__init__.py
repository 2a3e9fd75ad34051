"""The command line: reads options, asks the library, prints. stdout is for results, stderr for talk."""
