"""What `make bench` measures of l02, each as a process of its own: options as JSON in, figures as JSON out."""
