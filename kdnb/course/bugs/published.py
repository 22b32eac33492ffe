"""Eight bugs from public code, rewritten; the source shown is the source run."""

from kdnb.course.bugs.bug import Bug, Place
from kdnb.course.bugs.running import STEPS, TO_LABELS, TO_TEACHER, TRAINING_LOSS

ELEMENTWISE_MEAN = Bug(
    "The divergence is averaged over the classes too",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
     log_ps = F.log_softmax(student_logits / temperature, dim=1)
     log_pt = F.log_softmax(teacher_logits / temperature, dim=1)
     divergence = log_pt.exp() * (log_pt - log_ps)
-    soft = temperature**2 * divergence.mean()
+    soft = temperature**2 * divergence.sum(1).mean()
     hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "A divergence is a sum over the classes, averaged over the images. This code averages over the "
    "classes too and so divides the soft term by their number: with ten classes the teacher has a "
    'tenth of the intended weight. `F.kl_div(..., reduction="mean")` has the same effect; use '
    '`reduction="batchmean"`.',
    TRAINING_LOSS,
    "public code. This mean is the default of PyTorch's [`kl_div`]"
    "(https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html)",
)

SOFTMAX_TWICE = Bug(
    "Softmax twice",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
-    student = F.softmax(student_logits, dim=1)
-    teacher = F.softmax(teacher_logits, dim=1)
+    student, teacher = student_logits, teacher_logits
     log_ps = F.log_softmax(student / temperature, dim=1)
     pt = F.softmax(teacher / temperature, dim=1)
     soft = temperature**2 * F.kl_div(log_ps, pt, reduction="batchmean")
     hard = F.cross_entropy(student, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "The second softmax takes inputs between 0 and 1, so its output is nearly uniform. The hard "
    "term cannot fall below log(1 + (C − 1)/e), which is 1.46 for ten classes. The soft term can "
    "still reach 0, where both networks agree. `F.cross_entropy` contains a softmax: remove the "
    "softmax layer at the end of the network.",
    TO_TEACHER,
    "public notebooks whose networks end in a softmax layer",
)

TEACHERS_HARD_LOSS = Bug(
    "The hard loss is the teacher's",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
     log_ps = F.log_softmax(student_logits / temperature, dim=1)
     pt = F.softmax(teacher_logits / temperature, dim=1)
     soft = temperature**2 * F.kl_div(log_ps, pt, reduction="batchmean")
-    hard = F.cross_entropy(teacher_logits, labels)
+    hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "The hard term does not depend on the student, so its gradient is 0 and the labels have no "
    "effect. A teacher that is right on nearly all training images passes the labels on through "
    "its logits, so the accuracy may not reveal this bug.",
    TO_LABELS,
    "public code, under a variable name that promises the student's loss",
)

ONE_LOG = Bug(
    "The logarithm is missing on one side",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
     ps = F.softmax(student_logits / temperature, dim=1)
     pt = F.softmax(teacher_logits / temperature, dim=1)
-    soft = temperature**2 * F.kl_div(ps, pt, reduction="batchmean")
+    soft = temperature**2 * F.kl_div(ps.log(), pt, reduction="batchmean")
     hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "`F.kl_div` expects log-probabilities as its first argument and probabilities as its second. "
    "Without the logarithm the loss is not a divergence: it falls below 0 and is smallest for a "
    "student that puts all probability on the teacher's top class. The teacher's probabilities of "
    "the other classes lose their effect.",
    TRAINING_LOSS,
    "public code whose own printed log shows the negative loss",
)

SHUFFLED_CACHE = Bug(
    "Cached logits in the wrong order",
    Place.CACHED_LOGITS,
    '''\
 def cached_logits(teacher, images, batch_size=16):
     """The teacher's logits for the training images, computed once."""
-    loader = DataLoader(images, batch_size, shuffle=True)
+    loader = DataLoader(images, batch_size, shuffle=False)
     logits = []
     with torch.no_grad():
         for batch in loader:
             logits.append(teacher(batch))
     return torch.cat(logits)
''',
    "Row n of the cache belongs to another image, so the soft target usually contradicts the "
    "label. The training loss falls anyway, because a network can memorise wrong targets too.",
    TO_TEACHER,
    "public code that caches logits with its shuffling training loader",
)

TEACHER_IN_TRAIN_MODE = Bug(
    "The teacher is in training mode",
    Place.LIVE_LOGITS,
    '''\
 def soft_targets(distiller, images):
     """The teacher's logits for a batch; a distiller holds student and teacher."""
-    distiller.train()  # a training step begins
+    distiller.train()  # a training step begins
+    distiller.teacher.eval()
     with torch.no_grad():
         return distiller.teacher(images)
''',
    "`train()` switches every submodule to training mode, the teacher included. Dropout then "
    "removes half of the teacher's units at random, so the same image gets other logits at each "
    "step. Batch-norm layers, if the teacher has any, also update their statistics on the "
    "student's batches. `no_grad` prevents neither.",
    TO_TEACHER,
    "public code in which one module contains both networks",
)

FIRST_LABELS = Bug(
    "Every batch gets the first labels",
    Place.INDEXED_LOSS,
    '''\
 def loss(student_logits, index, train_labels, train_logits, temperature, soft_weight):
     """The loss of a batch, whose images have the indices in index."""
-    labels = train_labels[: len(index)]
+    labels = train_labels[index]
     teacher_logits = train_logits[index]
     log_ps = F.log_softmax(student_logits / temperature, dim=1)
     pt = F.softmax(teacher_logits / temperature, dim=1)
     soft = temperature**2 * F.kl_div(log_ps, pt, reduction="batchmean")
     hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "In a shuffled epoch, the labels of every batch belong to other images. A student learns "
    "nothing useful from such labels alone. Here the teacher's logits belong to the right images, "
    "oppose the wrong labels and hide much of the harm. Train the student *without* a teacher by "
    "the same code to see the harm.",
    TO_LABELS,
    "a public comparison, in which each batch had the first 32 labels",
)

ONE_STUDENT_FOR_ALL = Bug(
    "The student is not reset for each temperature",
    Place.SWEEP,
    '''\
 def sweep(new_student, train, temperatures):
     """Validation accuracy at each temperature."""
-    student = new_student()
-    accuracies = {}
-    for temperature in temperatures:
+    accuracies = {}
+    for temperature in temperatures:
+        student = new_student()
         accuracies[temperature] = train(student, temperature)
     return accuracies
''',
    "Each temperature continues with the student of the previous temperature, so the last has the "
    "most training. With falling temperatures, as here, the sweep flatters low temperatures.",
    STEPS,
    "several public sweeps",
)

ALL: tuple[Bug, ...] = (
    ELEMENTWISE_MEAN,
    SHUFFLED_CACHE,
    SOFTMAX_TWICE,
    TEACHERS_HARD_LOSS,
    TEACHER_IN_TRAIN_MODE,
    ONE_LOG,
    FIRST_LABELS,
    ONE_STUDENT_FOR_ALL,
)
